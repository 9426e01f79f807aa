"""A drawing surface with smooth lines: everything is drawn at twice the size and reduced at the end."""

import colorsys
import functools
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

Colour = tuple[int, ...]  # RGB, or RGBA with the opacity in [0, 255]

MARGIN = 20  # around and between pictures, pixels
GAP = 10  # between a picture and the text below it, pixels
LINE = 22  # height of a line of text, pixels
TEXT_SIZE = 15
BACKGROUND = (24, 26, 30)
TEXT = (232, 232, 232)
HALO = (0, 0, 0, 150)  # colour under lines and dots, so that they stand out from any picture
SCALE = 2

# Bright colours that differ clearly on a dark ground, the most different colours first.
_COLOURS: tuple[Colour, ...] = (
    (255, 80, 80), (70, 150, 255), (110, 225, 60), (255, 215, 50), (205, 105, 255), (0, 220, 210),
    (255, 145, 30), (255, 130, 205), (245, 245, 245), (190, 140, 90), (150, 165, 30), (165, 190, 255),
)  # fmt: skip


def palette(count: int) -> list[Colour]:
    """Return ``count`` different RGB colours; the first dozen differ clearly, further colours differ in hue."""
    hues = [(i * 0.6180339887) % 1 for i in range(count - len(_COLOURS))]  # golden ratio: neighbours are far apart
    further: list[Colour] = [tuple(round(255 * c) for c in colorsys.hsv_to_rgb(hue, 0.5, 0.85)) for hue in hues]
    return [*_COLOURS[:count], *further]


@functools.cache
def _font(size: float) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=size * SCALE)


def text_width(text: str, size: float = TEXT_SIZE) -> float:
    """Return the width of a line of text in pixels."""
    return _font(size).getlength(text) / SCALE


def wrap(text: str, width: float, size: float = TEXT_SIZE) -> list[str]:
    """Break a text at spaces into lines of at most ``width`` pixels; a wider word has a line of its own."""
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        if lines and text_width(longer, size) <= width:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def shorten(text: str, width: float, size: float = TEXT_SIZE, tail: str = "") -> str:
    """Return ``text`` with ``tail``; if both take more than ``width`` pixels, cut ``text`` and add an ellipsis."""
    if text_width(text + tail, size) <= width:
        return text + tail
    while text and text_width(f"{text}...{tail}", size) > width:
        text = text[:-1]
    return f"{text.rstrip()}...{tail}"


def fit(image: Image.Image, width: float, height: float) -> float:
    """Return the factor that makes an image as large as fits into ``width`` x ``height`` pixels."""
    return min(width / image.width, height / image.height)


class Canvas:
    """Draw on a dark ground; coordinates are (x, y) in pixels of the finished picture, fractions allowed.

    Colours are RGB, or RGBA with the opacity in [0, 255].
    """

    def __init__(self, width: int, height: int) -> None:
        self.size = (width, height)
        self.image = Image.new("RGB", (width * SCALE, height * SCALE), BACKGROUND)
        self.draw = ImageDraw.Draw(self.image, "RGBA")

    def paste(self, image: Image.Image, corner: Sequence[float], scale: float) -> None:
        """Put an image with its upper left corner at ``corner``, enlarged by ``scale``."""
        x, y = (round(c * SCALE) for c in corner)
        size = [max(1, round(side * scale * SCALE)) for side in image.size]
        self.image.paste(image.resize(size, Image.Resampling.BICUBIC), (x, y))

    def text(self, x: float, y: float, text: str, colour: Colour = TEXT, size: float = TEXT_SIZE) -> None:
        """Write one line of text with the upper left corner of its letters' box at (x, y)."""
        self.draw.text((x * SCALE, y * SCALE), text, fill=colour, font=_font(size))

    def line(self, start: Sequence[float], end: Sequence[float], colour: Colour, width: float = 1.0) -> None:
        """Draw a straight line of ``width`` pixels."""
        points = [c * SCALE for c in (*start, *end)]
        self.draw.line(points, fill=colour, width=max(1, round(width * SCALE)))

    def fill(self, corners: Sequence[float], colour: Colour) -> None:
        """Fill a rectangle with opposite ``corners`` (x0, y0, x1, y1)."""
        x0, y0, x1, y1 = (round(c * SCALE) for c in corners)
        if x1 > x0 and y1 > y0:
            self.draw.rectangle((x0, y0, x1 - 1, y1 - 1), fill=colour)

    def box(self, corners: Sequence[float], colour: Colour, width: float = 2.0) -> None:
        """Outline a rectangle (x0, y0, x1, y1), x0 < x1 and y0 < y1, on its inner side, with a dark halo inside.

        Nothing is drawn outside the rectangle, so the box of an object at the edge of a picture stays in the picture.
        """
        x0, y0, x1, y1 = (round(c * SCALE) for c in corners)
        for fill, inset, thickness in ((HALO, width, 1), (colour, 0, width)):
            inset, thickness = round(inset * SCALE), round(thickness * SCALE)
            if min(x1 - x0, y1 - y0) > 2 * inset:
                self.draw.rectangle(
                    (x0 + inset, y0 + inset, x1 - inset - 1, y1 - inset - 1), outline=fill, width=thickness
                )

    def dot(self, point: Sequence[float], colour: Colour, radius: float = 4.0) -> None:
        """Draw a filled circle on a dark halo."""
        x, y = (SCALE * c for c in point)
        for fill, r in ((HALO, SCALE * (radius + 1.5)), (colour, SCALE * radius)):
            self.draw.ellipse((x - r, y - r, x + r, y + r), fill=fill)

    def finish(self) -> Image.Image:
        """Return the picture, an image of ``size``."""
        return self.image.resize(self.size, Image.Resampling.LANCZOS)
