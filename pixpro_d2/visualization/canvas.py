"""Panels side by side with titles and a caption; drawn at twice the size and reduced, for smooth lines."""

import colorsys

from PIL import Image, ImageDraw, ImageFont

MARGIN = 20
LINE = 22  # height of a line of text
BACKGROUND = (24, 26, 30)
TEXT = (232, 232, 232)
SCALE = 2


def palette(count):
    """``count`` clearly different RGB colours."""
    hues = [(i * 0.6180339887) % 1 for i in range(count)]  # golden ratio: neighbours are far apart
    return [tuple(round(255 * c) for c in colorsys.hsv_to_rgb(h, 0.75, 1.0)) for h in hues]


class Canvas:
    """A row of square panels of ``side`` pixels on a dark ground.

    Coordinates are pixels of the finished picture; every panel has a title above it, and the caption stands below
    all of them, so that text covers no picture.
    """

    def __init__(self, panels, side, caption_lines=1):
        """
        Args:
            panels (int): number of panels.
            side (int): of a panel, pixels.
            caption_lines (int): lines of text below.
        """
        self.side = side
        self.size = (
            panels * side + (panels + 1) * MARGIN,
            2 * MARGIN + LINE + side + MARGIN // 2 + caption_lines * LINE,
        )
        self.image = Image.new("RGB", [SCALE * x for x in self.size], BACKGROUND)
        self.draw = ImageDraw.Draw(self.image, "RGBA")
        self.font = ImageFont.load_default(size=15 * SCALE)

    def origin(self, panel):
        """Upper left corner (x, y) of panel number ``panel``."""
        return MARGIN + panel * (self.side + MARGIN), MARGIN + LINE

    def paste(self, panel, image):
        """Put a PIL image into a panel, as large as fits, centred.

        Returns:
            tuple: (x, y, scale), where its upper left corner came to lie, and its enlargement.
        """
        scale = self.side / max(image.size)
        width, height = (max(1, round(s * scale)) for s in image.size)
        x, y = self.origin(panel)
        x, y = x + (self.side - width) // 2, y + (self.side - height) // 2
        enlarged = image.resize((width * SCALE, height * SCALE), Image.Resampling.BICUBIC)
        self.image.paste(enlarged, (x * SCALE, y * SCALE))
        return x, y, scale

    def text(self, x, y, text, colour=TEXT):
        """Text with its upper left corner at (x, y); returns the x where it ends."""
        self.draw.text((x * SCALE, y * SCALE), text, fill=colour, font=self.font)
        return x + self.draw.textlength(text, font=self.font) / SCALE

    def title(self, panel, text, colour=TEXT):
        """Title above a panel."""
        x, y = self.origin(panel)
        self.text(x, y - LINE, text, colour)

    def caption(self, line, text):
        """Text below the panels, in line number ``line``."""
        self.text(MARGIN, MARGIN + LINE + self.side + MARGIN // 2 + line * LINE, text)

    def line(self, points, colour, width=1.0):
        """Polyline through ``points`` [(x, y), ...]."""
        self.draw.line([(x * SCALE, y * SCALE) for x, y in points], fill=colour, width=max(1, round(width * SCALE)))

    def box(self, corners, colour, width=2.0):
        """Rectangle with opposite ``corners`` (x0, y0, x1, y1)."""
        x0, y0, x1, y1 = corners
        self.line([(x0, y0), (x1, y0), (x1, y1), (x0, y1), (x0, y0)], colour, width)

    def dot(self, point, colour, radius=4.0):
        """Filled circle with a dark rim."""
        x, y = (SCALE * c for c in point)
        r = SCALE * radius
        self.draw.ellipse((x - r, y - r, x + r, y + r), fill=colour, outline=(0, 0, 0), width=SCALE)

    def finish(self):
        """The picture, a PIL image of ``size``."""
        return self.image.resize(self.size, Image.Resampling.LANCZOS)
