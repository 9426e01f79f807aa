"""Legend of a picture: names beside squares of their colours."""

from collections.abc import Sequence

from .canvas import LINE, MARGIN, Canvas, Colour, shorten, text_width

SWATCH = 12  # side of a coloured square, pixels
INDENT = SWATCH + 6  # from the left of a square to its name


class Legend:
    """Lay out names in as many lines as the width needs.

    Attributes:
        places: (name, x in pixels, number of the line) of each name.
        height: height of all lines in pixels; 0 without names.
    """

    def __init__(self, names: Sequence[str], colours: Sequence[Colour], width: int) -> None:
        """
        Args:
            names: names; a name that is too long for a line is cut.
            colours: RGB, of the names.
            width: width of a line in pixels.
        """
        self.colours = colours
        self.places: list[tuple[str, float, int]] = []
        x, line = 0.0, 0
        for name in names:
            name = shorten(name, width - INDENT)
            step = INDENT + text_width(name)
            if x and x + step > width:
                x, line = 0, line + 1
            self.places.append((name, x, line))
            x += step + MARGIN
        self.height = (line + 1) * LINE if names else 0

    def draw(self, canvas: Canvas, left: float, top: float) -> None:
        """Draw the legend with its upper left corner at (left, top)."""
        for (name, x, line), colour in zip(self.places, self.colours, strict=True):
            x, y = left + x, top + line * LINE
            canvas.fill((x, y + 3, x + SWATCH, y + 3 + SWATCH), colour)
            canvas.text(x + INDENT, y, name)
