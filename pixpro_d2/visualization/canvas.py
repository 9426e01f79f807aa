"""A drawing surface with smooth lines: everything is drawn at twice the size and reduced at the end."""

import colorsys
import functools

from PIL import Image, ImageDraw, ImageFont

MARGIN = 20  # around and between pictures, pixels
GAP = 10  # between a picture and the text below it, pixels
LINE = 22  # height of a line of text, pixels
TEXT_SIZE = 15
BACKGROUND = (24, 26, 30)
TEXT = (232, 232, 232)
HALO = (0, 0, 0, 150)  # under lines and dots, so that they stand out from any picture
SCALE = 2

# Bright colours that are told apart on a dark ground, the most different ones first.
_COLOURS = (
    (255, 80, 80), (70, 150, 255), (110, 225, 60), (255, 215, 50), (205, 105, 255), (0, 220, 210),
    (255, 145, 30), (255, 130, 205), (245, 245, 245), (190, 140, 90), (150, 165, 30), (165, 190, 255),
)  # fmt: skip


def palette(count):
    """``count`` different RGB colours; the first dozen are easily told apart, further ones differ in hue."""
    hues = [(i * 0.6180339887) % 1 for i in range(count - len(_COLOURS))]  # golden ratio: neighbours are far apart
    further = [tuple(round(255 * c) for c in colorsys.hsv_to_rgb(hue, 0.5, 0.85)) for hue in hues]
    return [*_COLOURS[:count], *further]


@functools.cache
def _font(size):
    return ImageFont.load_default(size=size * SCALE)


def text_width(text, size=TEXT_SIZE):
    """Width of a line of text in pixels."""
    return _font(size).getlength(text) / SCALE


def wrap(text, width, size=TEXT_SIZE):
    """Lines of at most ``width`` pixels, broken at spaces; a word that is wider has a line of its own."""
    lines = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and text_width(longer, size) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def shorten(text, width, size=TEXT_SIZE, tail=""):
    """``text`` with ``tail``; if that takes more than ``width`` pixels, ``text`` is cut and ends in an ellipsis."""
    if text_width(text + tail, size) <= width:
        return text + tail
    while text and text_width(f"{text}...{tail}", size) > width:
        text = text[:-1]
    return f"{text.rstrip()}...{tail}"


def fit(image, width, height):
    """Factor that makes a PIL image as large as fits into ``width`` x ``height`` pixels."""
    return min(width / image.width, height / image.height)


class Canvas:
    """A dark ground to draw on; coordinates are (x, y) in pixels of the finished picture, fractions allowed.

    Colours are RGB, or RGBA with the opacity in [0, 255].
    """

    def __init__(self, width, height):
        self.size = (width, height)
        self.image = Image.new("RGB", (width * SCALE, height * SCALE), BACKGROUND)
        self.draw = ImageDraw.Draw(self.image, "RGBA")

    def paste(self, image, corner, scale):
        """Put a PIL image with its upper left corner at ``corner``, enlarged by ``scale``."""
        x, y = (round(c * SCALE) for c in corner)
        size = [max(1, round(side * scale * SCALE)) for side in image.size]
        self.image.paste(image.resize(size, Image.Resampling.BICUBIC), (x, y))

    def text(self, x, y, text, colour=TEXT, size=TEXT_SIZE):
        """One line of text with the upper left corner of its letters' box at (x, y)."""
        self.draw.text((x * SCALE, y * SCALE), text, fill=colour, font=_font(size))

    def line(self, start, end, colour, width=1.0):
        """Straight line of ``width`` pixels."""
        points = [c * SCALE for c in (*start, *end)]
        self.draw.line(points, fill=colour, width=max(1, round(width * SCALE)))

    def fill(self, corners, colour):
        """Filled rectangle with opposite ``corners`` (x0, y0, x1, y1)."""
        x0, y0, x1, y1 = (round(c * SCALE) for c in corners)
        if x1 > x0 and y1 > y0:
            self.draw.rectangle((x0, y0, x1 - 1, y1 - 1), fill=colour)

    def box(self, corners, colour, width=2.0):
        """Outline along the inner side of a rectangle (x0, y0, x1, y1), x0 < x1 and y0 < y1, with a dark halo inside.

        Nothing is drawn outside the rectangle, so the box of an object at the edge of a picture stays in the picture.
        """
        x0, y0, x1, y1 = (round(c * SCALE) for c in corners)
        for fill, inset, thickness in ((HALO, width, 1), (colour, 0, width)):
            inset, thickness = round(inset * SCALE), round(thickness * SCALE)
            if min(x1 - x0, y1 - y0) > 2 * inset:
                self.draw.rectangle(
                    (x0 + inset, y0 + inset, x1 - inset - 1, y1 - inset - 1), outline=fill, width=thickness
                )

    def dot(self, point, colour, radius=4.0):
        """Filled circle on a dark halo."""
        x, y = (SCALE * c for c in point)
        for fill, r in ((HALO, SCALE * (radius + 1.5)), (colour, SCALE * radius)):
            self.draw.ellipse((x - r, y - r, x + r, y + r), fill=fill)

    def finish(self):
        """The picture, a PIL image of ``size``."""
        return self.image.resize(self.size, Image.Resampling.LANCZOS)
