"""Sheets of small pictures with titles, text below them, and marks on their pixels."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from .canvas import BACKGROUND, GAP, HALO, LINE, MARGIN, TEXT, Canvas, Colour, fit, shorten, text_width, wrap
from .heat import draw_bar

WIDTH = 1200  # maximum width of a sheet, pixels
SIDE = 216  # side of a picture in a row of five, pixels


@dataclass(frozen=True)
class Tile:
    """Hold a picture of its final size with a title above; (x, y) is the title's upper left corner in the sheet.

    The title is at most as wide as ``room``, by default as wide as the picture.
    """

    x: float
    y: float
    picture: Image.Image
    title: str
    colour: Colour = TEXT
    room: int | None = None


def lay_out_rows(rows: Sequence[Sequence[tuple[Any, ...]]]) -> list[Tile]:
    """Place tiles in rows, as :func:`draw_sheet` takes them.

    Args:
        rows: (picture, title) or (picture, title, colour of the title) each; pictures of SIDE.
    """
    step = LINE + SIDE + GAP
    return [
        Tile(MARGIN + j * (SIDE + MARGIN), MARGIN + i * step, *tile)
        for i, row in enumerate(rows)
        for j, tile in enumerate(row)
    ]


def draw_sheet(
    tiles: Sequence[Tile], paragraphs: Sequence[str], width: int = WIDTH, bar: tuple[str, str] | None = None
) -> Image.Image:
    """Draw a sheet as high as its tiles and text need.

    Args:
        tiles: tiles whose pictures do not overlap.
        paragraphs: text below, each on lines of its own.
        width: width of the sheet in pixels.
        bar: names of the lowest and the highest colour of :func:`pixpro_d2.visualization.heat.magma`,
            if the pictures have these colours.

    Returns:
        An RGB picture.
    """
    lines = [line for text in paragraphs for line in wrap(text, width - 2 * MARGIN)]
    bottom = max(tile.y + LINE + tile.picture.height for tile in tiles) + GAP
    canvas = Canvas(width, round(bottom + (len(lines) + bool(bar)) * LINE + MARGIN))
    for tile in tiles:
        canvas.text(tile.x, tile.y, shorten(tile.title, tile.room or tile.picture.width), tile.colour)
    if bar is not None:
        draw_bar(canvas, MARGIN, bottom, *bar)
        bottom += LINE
    for i, line in enumerate(lines):
        canvas.text(MARGIN, bottom + i * LINE, line)
    sheet = canvas.finish()
    for tile in tiles:
        sheet.paste(tile.picture, (round(tile.x), round(tile.y + LINE)))
    return sheet


def contact_sheet(rows: Sequence[Image.Image]) -> Image.Image:
    """Join pictures below each other into a picture as wide as the widest."""
    sheet = Image.new("RGB", (max(row.width for row in rows), sum(row.height for row in rows)), BACKGROUND)
    y = 0
    for row in rows:
        sheet.paste(row, (0, y))
        y += row.height
    return sheet


def tile_canvas(image: Image.Image, width: int = SIDE, height: int = SIDE) -> Canvas:
    """Return a canvas with a picture, as large as fits into ``width`` x ``height`` pixels."""
    scale = fit(image, width, height)
    canvas = Canvas(round(image.width * scale), round(image.height * scale))
    canvas.paste(image, (0, 0), scale)
    return canvas


def bin_box(index: int | np.integer, grid: Sequence[int], side: float = SIDE) -> tuple[float, float, float, float]:
    """Return (x0, y0, x1, y1) of the row-major bin ``index`` of a ``grid`` (H, W) over a picture of ``side`` pixels."""
    height, width = side / grid[0], side / grid[1]
    row, column = divmod(int(index), grid[1])
    return column * width, row * height, (column + 1) * width, (row + 1) * height


def mark(canvas: Canvas, box: Sequence[float], number: int, colour: Colour) -> None:
    """Draw a numbered dot in the middle of a bin's ``box``; at the edge of the picture, move it inside."""
    radius = 9
    x, y = (min(max((box[i] + box[i + 2]) / 2, radius + 2), canvas.size[i] - radius - 2) for i in range(2))
    canvas.dot((x, y), colour, radius)
    text = str(number)
    canvas.text(x - text_width(text, 13) / 2, y - 8, text, (0, 0, 0), 13)


def outline(canvas: Canvas, mask: np.ndarray, colour: Colour, side: float = SIDE) -> None:
    """Draw the border of the bins in a ``mask`` (H, W) bool over a picture of ``side`` pixels."""
    framed = np.pad(mask, 1)
    edges = []
    for i in np.flatnonzero(mask):
        row, column = divmod(int(i), mask.shape[1])
        x0, y0, x1, y1 = bin_box(i, mask.shape, side)
        around = framed[row : row + 3, column : column + 3]
        sides = ((0, 1, x0, y0, x1, y0), (2, 1, x0, y1, x1, y1), (1, 0, x0, y0, x0, y1), (1, 2, x1, y0, x1, y1))
        edges += [ends for r, c, *ends in sides if not around[r, c]]
    for line_colour, width in ((HALO, 4), (colour, 2)):
        for x0, y0, x1, y1 in edges:
            canvas.line((x0, y0), (x1, y1), line_colour, width)
