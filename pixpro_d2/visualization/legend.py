"""Legend of a picture: names beside squares of their colours."""

from .canvas import LINE, MARGIN, shorten, text_width

SWATCH = 12  # side of a coloured square, pixels
INDENT = SWATCH + 6  # from the left of a square to its name


class Legend:
    """Names in one line or several, as the width asks for.

    Attributes:
        places (list[tuple]): (name, x in pixels, number of the line) of each name.
        height (int): of all lines in pixels; 0 without names.
    """

    def __init__(self, names, colours, width):
        """
        Args:
            names (list[str]): those too long for a line are cut.
            colours (list[tuple]): RGB, of the names.
            width (int): of a line in pixels.
        """
        self.colours = colours
        self.places, x, line = [], 0, 0
        for name in names:
            name = shorten(name, width - INDENT)
            step = INDENT + text_width(name)
            if x and x + step > width:
                x, line = 0, line + 1
            self.places.append((name, x, line))
            x += step + MARGIN
        self.height = (line + 1) * LINE if names else 0

    def draw(self, canvas, left, top):
        """Draw it with its upper left corner at (left, top)."""
        for (name, x, line), colour in zip(self.places, self.colours, strict=True):
            x, y = left + x, top + line * LINE
            canvas.fill((x, y + 3, x + SWATCH, y + 3 + SWATCH), colour)
            canvas.text(x + INDENT, y, name)
