"""Figures in pixels on a dark ground: panels for images and marks, and blocks of text, legend or colour bar below them.

Matplotlib draws each block into a figure of its own; :func:`contact_sheet` joins the finished blocks.
"""

import colorsys
import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg, RendererAgg
from matplotlib.colors import ListedColormap, NoNorm, to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import Patch
from PIL import Image

from ..utils.sampling import scattered

DPI = 72  # a point is a pixel, so sizes of letters and widths of lines are in pixels too
WIDTH = 1200  # width of a large picture, pixels
MARGIN = 20  # around and between panels, pixels
GAP = 10  # between a panel and what is below it, pixels
LINE = 22  # height of a title, pixels
TEXT_STEP = 18  # from a line of a paragraph to the next, pixels
TEXT_SIZE = 13
BACKGROUND, TEXT = "#181a1e", "#e8e8e8"
BAR = (160, 14)  # width and height of a colour bar, pixels
MAGMA = "magma"  # colours of numbers from 0 to 1
OPACITY = 0.6  # opacity of colours over an image

# Bright colours that differ clearly on a dark ground, the most different colours first.
_COLOURS = (
    "#ff5050", "#4696ff", "#6ee13c", "#ffd732", "#cd69ff", "#00dcd2",
    "#ff911e", "#ff82cd", "#f5f5f5", "#be8c5a", "#96a51e", "#a5beff",
)  # fmt: skip


def palette(count: int) -> list[str]:
    """Return ``count`` different colours; the first dozen differ clearly, further colours differ in hue."""
    hues = [scattered(i) for i in range(count - len(_COLOURS))]
    return [*_COLOURS[:count], *(to_hex(colorsys.hsv_to_rgb(hue, 0.5, 0.85)) for hue in hues)]


def plain(text: str) -> str:
    """Return a text that matplotlib draws letter by letter: no formulas, and no bytes of a foreign file name."""
    return text.encode(errors="replace").decode().replace("$", r"\$")


@functools.cache
def _renderer() -> RendererAgg:
    return RendererAgg(1, 1, DPI)


@functools.lru_cache(4096)
def text_width(text: str, size: float = TEXT_SIZE) -> float:
    """Return the width of a line of text in pixels."""
    text = text.encode(errors="replace").decode()
    return _renderer().get_text_width_height_descent(text, FontProperties(size=size), ismath=False)[0]


def shorten(text: str, width: float, tail: str = "") -> str:
    """Return ``text`` with ``tail``; if both take more than ``width`` pixels, cut ``text`` and add an ellipsis."""
    if text_width(text + tail) <= width:
        return text + tail
    while text and text_width(f"{text}...{tail}") > width:
        text = text[:-1]
    return f"{text.rstrip()}...{tail}"


def fit(image: Image.Image, width: float, height: float) -> tuple[int, int]:
    """Return the largest size (width, height) of an image inside ``width`` x ``height`` pixels."""
    scale = min(width / image.width, height / image.height)
    return max(1, round(image.width * scale)), max(1, round(image.height * scale))


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure of ``width`` x ``height`` pixels."""
    figure = Figure(dpi=DPI, facecolor=BACKGROUND)
    _resize(figure, width, height)
    return figure


def _resize(figure: Figure, width: float, height: float) -> None:
    figure.set_size_inches((round(width) + 0.01) / DPI, (round(height) + 0.01) / DPI)  # matplotlib rounds down


def to_image(figure: Figure) -> Image.Image:
    """Render a figure as an RGB picture."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())


def size_of(figure: Figure) -> tuple[int, int]:
    """Return the width and height of a figure in pixels."""
    width, height = figure.get_size_inches() * DPI
    return int(width), int(height)


def write(figure: Figure, x: float, y: float, text: str, colour: str = TEXT) -> None:
    """Write a line of text that begins at (x, y), in pixels from the upper left corner of the figure."""
    width, height = size_of(figure)
    figure.text(x / width, 1 - (y + TEXT_SIZE) / height, plain(text), size=TEXT_SIZE, color=colour)


def add_panel(figure: Figure, corner: tuple[float, float], size: tuple[float, float]) -> Axes:
    """Return axes without a frame; their coordinates are (x, y) from 0 at the upper left corner to ``size``.

    Args:
        figure: figure to draw in.
        corner: (x, y) of the upper left corner of the panel in the figure, pixels.
        size: width and height in pixels.
    """
    width, height = size_of(figure)
    bounds = (corner[0] / width, 1 - (corner[1] + size[1]) / height, size[0] / width, size[1] / height)
    axes = figure.add_axes(bounds, xlim=(0, size[0]), ylim=(size[1], 0), autoscale_on=False)
    axes.set_axis_off()
    return axes


def add_image(
    figure: Figure,
    image: Image.Image,
    corner: tuple[float, float],
    size: tuple[int, int],
    title: str = "",
    colour: str = TEXT,
) -> Axes:
    """Show an image below its title, the upper left corner of the title at ``corner``.

    Returns:
        Axes whose coordinates are pixels of ``image``: (x, y) from its upper left corner.
    """
    write(figure, *corner, title, colour)
    axes = add_panel(figure, (corner[0], corner[1] + LINE), size)
    axes.set(xlim=(0, image.width), ylim=(image.height, 0))
    cover(axes, np.asarray(image.convert("RGB").resize(size, Image.Resampling.BICUBIC)), interpolation="nearest")
    return axes


def cover(axes: Axes, values: np.ndarray, **options: Any) -> None:
    """Draw an array (H, W) or (H, W, 3) over the whole panel; see ``Axes.imshow``.

    By default, colours are smooth between the centres of bins, and exact at the centres.
    """
    extent = (*axes.get_xlim(), *axes.get_ylim())
    axes.imshow(values, **{"extent": extent, "aspect": "auto", "interpolation": "catrom", **options})


def cover_map(axes: Axes, values: np.ndarray) -> None:
    """Draw a map (H, W) of numbers in [0, 1] over a panel, smoothly, in the colours of MAGMA; NaN is 0."""
    cover(axes, np.nan_to_num(values), cmap=MAGMA, vmin=0, vmax=1, alpha=OPACITY)


def cover_classes(axes: Axes, ids: np.ndarray, colours: Sequence[str]) -> None:
    """Colour a panel by a map (H, W) of class ids; a bin whose class has no colour stays as it is."""
    known = np.ma.masked_outside(np.asarray(ids, dtype=int), 0, len(colours) - 1)
    options = dict(cmap=ListedColormap(colours), norm=NoNorm(), alpha=OPACITY)
    cover(axes, known, interpolation="auto", interpolation_stage="rgba", **options)


def wrap(text: str, width: float) -> list[str]:
    """Break a text at spaces into lines of at most ``width`` pixels; a wider word has a line of its own.

    Matplotlib can wrap text too, but measures a line anew for each word: it took a third of the time of a picture.
    """
    lines: list[str] = []
    space, used = text_width(" "), 0.0
    for word in text.split(" "):
        if lines and used + space + text_width(word) <= width:
            lines[-1] += f" {word}"
            used += space + text_width(word)
        else:
            lines.append(word)
            used = text_width(word)
    return lines


def text_block(paragraphs: Sequence[str], width: int) -> Image.Image:
    """Return paragraphs in lines that leave a margin on either side of ``width`` pixels."""
    lines = [line for text in paragraphs for line in wrap(text, width - 2 * MARGIN)]
    figure = new_figure(width, len(lines) * TEXT_STEP + MARGIN)
    for i, line in enumerate(lines):
        write(figure, MARGIN, 2 + i * TEXT_STEP, line)
    return to_image(figure)


def legend_block(names: Sequence[str], colours: Sequence[str], width: int) -> Image.Image:
    """Return names beside squares of their colours, in as many columns as ``width`` pixels have room for."""
    room = width - 2 * MARGIN
    labels = [shorten(name, room - LINE) for name in names]
    widths = [text_width(label) + LINE + MARGIN for label in labels]
    columns = next(n for n in range(len(names), 0, -1) if n == 1 or _width(widths, n) <= room + MARGIN)
    figure = new_figure(width, LINE)
    legend = figure.legend(
        [Patch(color=colour) for colour in colours], [plain(label) for label in labels], ncols=columns,
        loc="upper left", bbox_to_anchor=(MARGIN / width, 1), fontsize=TEXT_SIZE, labelcolor=TEXT, frameon=False,
        borderpad=0, borderaxespad=0, handlelength=1, handleheight=1, handletextpad=0.5, labelspacing=0.6,
        columnspacing=MARGIN / TEXT_SIZE,
    )  # fmt: skip
    _resize(figure, width, legend.get_window_extent(_renderer()).height + GAP)
    return to_image(figure)


def _width(widths: Sequence[float], columns: int) -> float:
    """Return the width of a legend whose entries have ``widths``; matplotlib fills one column after the other."""
    return sum(column.max() for column in np.array_split(widths, columns))


def bar_block(low: str, high: str, width: int) -> Image.Image:
    """Return a bar of the colours of MAGMA between the names of its ends."""
    figure = new_figure(width, LINE)
    left = MARGIN + text_width(low) + 8
    write(figure, MARGIN, 2, low)
    write(figure, left + BAR[0] + 8, 2, high)
    cover(add_panel(figure, (round(left), 4), BAR), np.linspace(0, 1, BAR[0])[None], cmap=MAGMA)
    return to_image(figure)


def contact_sheet(blocks: Sequence[Image.Image]) -> Image.Image:
    """Join pictures below each other into a picture as wide as the widest."""
    width = max(block.width for block in blocks)
    sheet = Image.new("RGB", (width, sum(block.height for block in blocks)), BACKGROUND)
    y = 0
    for block in blocks:
        sheet.paste(block, (0, y))
        y += block.height
    return sheet


def is_bright(colour: str) -> bool:
    """Return whether black letters on a colour read better than white letters."""
    return float(np.dot(to_rgb(colour), (0.299, 0.587, 0.114))) > 0.47
