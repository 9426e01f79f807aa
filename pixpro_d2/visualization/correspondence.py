"""Picture of the positive pairs of two views, on which the pixel loss is computed."""

from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from ..modeling.pretrain.correspondence import bin_centers
from ..utils.sampling import scattered
from .figures import (
    GAP,
    LINE,
    MARGIN,
    WIDTH,
    add_image,
    add_panel,
    contact_sheet,
    fit,
    new_figure,
    palette,
    shorten,
    size_of,
    text_block,
    to_image,
    write,
)
from .labels import draw_labels, upright
from .marks import bin_boxes, centres, draw_box, draw_dots, draw_lines, fill_boxes

VIEW_COLOURS = ("#ffc400", "#00c8ff")
ORIGINAL_SIDE = 320  # side of the square that holds the original image; the legend is below it
VIEW_SIDE = 400
TOP = MARGIN + LINE  # upper edge of the images, below their titles
GRID_COLOUR = (1.0, 1.0, 1.0, 0.22)
MAX_THICK_LINES = 16  # a bin with more positives has thin lines

Grids = Sequence[tuple[int, int]]  # (H, W) of the feature maps of view 1 and of view 2


def choose_queries(positives: np.ndarray, grid: tuple[int, int], count: int) -> np.ndarray:
    """Choose bins of view 1 that have a positive, spread evenly over these bins; no two share a positive.

    Each bin comes from another row, as long as there are rows, so that lines between the views lie apart. The columns
    are scattered, so that they lie apart too. Because positives are not shared, every marked bin of view 2
    has one colour. If bins have many positives, fewer bins are chosen.

    Args:
        positives: (H * W, Lk) bool.
        grid: (H, W) of view 1.
        count: maximum number of bins.

    Returns:
        At most ``count`` indices of bins, ascending.
    """
    matched = np.flatnonzero(positives.any(axis=1))
    rows = np.unique(matched // grid[1])
    chosen: list[int] = []
    taken = np.zeros(positives.shape[1], dtype=bool)
    for i in range(count if len(rows) else 0):
        in_row = matched[matched // grid[1] == rows[i * len(rows) // count]]
        free = in_row[~positives[in_row][:, taken].any(axis=1)]
        if len(free):
            chosen.append(free[int((0.5 + scattered(i)) % 1 * len(free))])
            taken |= positives[chosen[-1]]
    return np.sort(np.array(chosen, dtype=int))


def count_pairs(positives: np.ndarray) -> tuple[int, float]:
    """Count the positive pairs of ``positives`` (Lq, Lk); return their number and the share of view 1's bins with one.

    The share is in [0, 1].
    """
    return int(positives.sum()), float(positives.any(axis=1).mean())


def describe(positives: np.ndarray, grids: Grids, pos_ratio: float | None = None) -> str:
    """Describe the counts of a mask in a sentence.

    Args:
        positives: (Lq, Lk) bool.
        grids: (H, W) of view 1 and of view 2.
        pos_ratio: threshold in bin diagonals, named if given.
    """
    pairs, share = count_pairs(positives)
    first, second = (f"{height} x {width}" for height, width in grids)
    grid = f"a {first} grid" if first == second else f"grids of {first} and {second}"
    threshold = "" if pos_ratio is None else f" at threshold {pos_ratio:g}"
    noun = "pair" if pairs == 1 else "pairs"
    return f"{pairs} positive {noun} on {grid}{threshold}; {share:.0%} of view 1's bins have one."


def draw_correspondences(
    image: Image.Image,
    views: Sequence[Image.Image],
    boxes: np.ndarray,
    positives: np.ndarray | Tensor,
    grids: Grids,
    max_lines: int = 12,
    caption: str | None = None,
) -> Image.Image:
    """Draw the original with both crop boxes, both views with their grids, and lines between positive pairs.

    Some bins of view 1 are marked by a dot, with lines to all their positives in view 2. A smaller dot of the same
    colour marks the bin in the original.

    Args:
        image: the original, RGB.
        views: two square views, RGB.
        boxes: (2, 4) float32 signed crop boxes in pixels of the original.
        positives: (Lq, Lk) bool, row-major; rows are bins of view 1.
        grids: (H, W) of the feature maps of view 1 and of view 2.
        max_lines: maximum number of bins of view 1 whose lines are drawn.
        caption: text below; by default the text of :func:`describe`.

    Returns:
        A picture WIDTH pixels wide.
    """
    positives = np.asarray(positives)
    queries = choose_queries(positives, grids[0], max_lines)
    paragraphs = [describe(positives, grids) if caption is None else caption]
    if len(queries):
        bins = "1 bin" if len(queries) == 1 else f"{len(queries)} bins"
        paragraphs.append(f"Shown: {bins} of view 1, with lines to all positives in view 2.")
    figure, colours = new_figure(WIDTH, TOP + VIEW_SIDE + GAP), palette(len(queries))
    places = bin_centers(torch.as_tensor(boxes[:1]), grids[0])[0].numpy()[queries]
    _draw_original(figure, image, boxes, places, colours)
    draw_views(figure, views, boxes, TOP, positives, grids, queries)
    return contact_sheet([to_image(figure), text_block(paragraphs, WIDTH)])


def view_name(number: int, box: np.ndarray) -> str:
    """Return the name in a picture of view ``number``, 0 or 1, of a signed crop ``box``."""
    return f"view {number + 1}" + (", mirrored" if box[0] > box[2] else "")


def _draw_original(
    figure: Figure, image: Image.Image, boxes: np.ndarray, points: np.ndarray, colours: Sequence[str]
) -> None:
    """Draw the original with its crop boxes, ``points`` (n, 2) of (x, y) in its pixels, and the legend below."""
    size = fit(image, ORIGINAL_SIDE, ORIGINAL_SIDE)
    title = shorten(f"image, {image.width} x {image.height} pixels", ORIGINAL_SIDE)
    axes = add_image(figure, image, (MARGIN, MARGIN), size, title)
    # The second outline is thinner, so that the first outline still shows where both coincide.
    for number, width in enumerate((4, 2)):
        draw_box(axes, upright(boxes[number]), VIEW_COLOURS[number], width)
    draw_dots(axes, points, colours, radius=3)
    label_crops(axes, [0, 1], boxes, points, 5)
    write_crops(figure, boxes, TOP + size[1] + GAP)


def label_crops(axes: Axes, numbers: Sequence[int], boxes: np.ndarray, points: np.ndarray, radius: float) -> None:
    """Write the names of views beside their crop ``boxes``, clear of dots of ``radius`` pixels at ``points``."""
    scale = axes.get_xlim()[1] / axes.get_window_extent().width
    labels = [(f"view {i + 1}", upright(boxes[i]), VIEW_COLOURS[i]) for i in numbers]
    draw_labels(axes, labels, [(*(point - radius * scale), *(point + radius * scale)) for point in points])


def write_crops(figure: Figure, boxes: np.ndarray, top: float) -> None:
    """Write names and sizes of both crops in their colours, in the left column from ``top`` on: a line each."""
    for i, (box, colour) in enumerate(zip(boxes, VIEW_COLOURS)):
        text = f"■ {view_name(i, box)}: {abs(box[2] - box[0]):.0f} x {box[3] - box[1]:.0f} pixels"
        write(figure, MARGIN, top + i * LINE, shorten(text, ORIGINAL_SIDE), colour)


def draw_views(
    figure: Figure,
    views: Sequence[Image.Image],
    boxes: np.ndarray,
    top: float,
    positives: np.ndarray,
    grids: Grids,
    queries: np.ndarray,
) -> None:
    """Draw both views with their grids beside the left column, and lines from the ``queries`` to their positives.

    Args:
        figure: figure WIDTH pixels wide.
        views, boxes, positives, grids: as in :func:`draw_correspondences`.
        top: upper edge of the views, below their titles, pixels.
        queries: indices of bins of view 1.
    """
    corners = [(ORIGINAL_SIDE + 2 * MARGIN + i * (VIEW_SIDE + MARGIN), top) for i in range(2)]
    for i, (x, y) in enumerate(corners):
        name = view_name(i, boxes[i])
        axes = add_image(figure, views[i], (x, y - LINE), (VIEW_SIDE, VIEW_SIDE), name, VIEW_COLOURS[i])
        steps = [axes.get_xlim()[1] / count * np.arange(1, count) for count in grids[i]]
        axes.hlines(steps[0], *axes.get_xlim(), colors=[GRID_COLOUR], linewidths=1)
        axes.vlines(steps[1], *axes.get_ylim(), colors=[GRID_COLOUR], linewidths=1)
        draw_box(axes, (0, 0, axes.get_xlim()[1], axes.get_ylim()[0]), VIEW_COLOURS[i])
    over = add_panel(figure, (0, 0), size_of(figure))
    starts, ends = (bin_boxes(grid, (VIEW_SIDE,) * 2) + corner * 2 for grid, corner in zip(grids, corners))
    for query, colour in zip(queries, palette(len(queries))):
        _draw_pair(over, starts[query], ends[positives[query]], colour)


def _draw_pair(axes: Axes, start: np.ndarray, ends: np.ndarray, colour: str) -> None:
    """Draw a bin, its positives ``ends`` (n, 4), and lines from its centre to theirs; no line crosses the dots."""
    fill_boxes(axes, np.concatenate((start[None], ends)), colour, 0.43)
    places, few = centres(ends), len(ends) <= MAX_THICK_LINES
    # Many lines would close to a solid fan.
    lines = np.stack((np.broadcast_to(centres(start), places.shape), places), axis=1)
    draw_lines(axes, lines, colour, 1.5 if few else 0.5, faint=not few)
    draw_dots(axes, places, colour, min(3.5, 0.3 * float((ends[0, 2:] - ends[0, :2]).min())))
    draw_dots(axes, centres(start), colour, 5)
