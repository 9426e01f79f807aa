"""Picture of the positive pairs of two views, on which the pixel loss is computed."""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..modeling.pretrain.correspondence import bin_centers
from .canvas import GAP, HALO, LINE, MARGIN, Canvas, Colour, fit, palette, shorten, wrap
from .labels import draw_labels

VIEW_COLOURS: tuple[Colour, Colour] = ((255, 196, 0), (0, 200, 255))
ORIGINAL_SIDE = 320  # side of the square that holds the original image; the legend is below it
VIEW_SIDE = 400
WIDTH = ORIGINAL_SIDE + 2 * VIEW_SIDE + 4 * MARGIN  # width of the whole picture
TOP = MARGIN + LINE  # upper edge of the images, below their titles
GRID_COLOUR = (255, 255, 255, 55)
MAX_THICK_LINES = 16  # a bin with more positives has thin lines

Grids = Sequence[tuple[int, int]]  # (H, W) of the feature maps of view 1 and of view 2


def bin_pixels(grid: tuple[int, int], size: int) -> np.ndarray:
    """Return the centres of the bins of a feature map in the pixels of its own view.

    A mirrored view's feature map is mirrored as its pixels are, so this function needs no flip.

    Args:
        grid: (H, W).
        size: side of the view in pixels.

    Returns:
        (H * W, 2) of (x, y), row-major.
    """
    return bin_centers(torch.tensor([[0, 0, size, size]]), grid)[0].numpy()


def choose_queries(positives: np.ndarray, grid: tuple[int, int], count: int) -> np.ndarray:
    """Choose bins of view 1 that have a positive, spread evenly over these bins; no two share a positive.

    Each bin comes from another row, as long as there are rows, so that lines between the views lie apart. The columns
    follow the golden ratio, so that they lie apart too. Because positives are not shared, every marked bin of view 2
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
            chosen.append(free[int((0.5 + i * 0.6180339887) % 1 * len(free))])
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
    views: Sequence[np.ndarray],
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
        views: two square views, uint8 RGB, (3, S, S) or (S, S, 3); grey as (1, S, S).
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
    lines = [line for paragraph in paragraphs for line in wrap(paragraph, WIDTH - 2 * MARGIN)]
    canvas = Canvas(WIDTH, TOP + VIEW_SIDE + GAP + len(lines) * LINE + MARGIN)
    for i, line in enumerate(lines):
        canvas.text(MARGIN, TOP + VIEW_SIDE + GAP + i * LINE, line)

    colours = palette(len(queries))
    _draw_original(canvas, image, boxes, bin_centers(torch.as_tensor(boxes[:1]), grids[0])[0].numpy()[queries], colours)
    corners = [(ORIGINAL_SIDE + 2 * MARGIN + i * (VIEW_SIDE + MARGIN), TOP) for i in range(2)]
    for i, corner in enumerate(corners):
        canvas.text(corner[0], MARGIN, view_name(i, boxes[i]), VIEW_COLOURS[i])
        draw_view(canvas, views[i], corner, grids[i], VIEW_COLOURS[i])
    draw_pairs(canvas, corners, positives, grids, queries, colours)
    return canvas.finish()


def view_name(number: int, box: np.ndarray) -> str:
    """Return the name in a picture of view ``number``, 0 or 1, of a signed crop ``box``."""
    return f"view {number + 1}" + (", mirrored" if box[0] > box[2] else "")


def _as_image(view: np.ndarray) -> Image.Image:
    """Convert a view (3 or 1, S, S) or (S, S, 3) to an RGB image."""
    view = np.asarray(view)
    if view.shape[-1] != 3:
        view = view.transpose(1, 2, 0)
    return Image.fromarray(np.ascontiguousarray(np.broadcast_to(view, (*view.shape[:2], 3))))


def _draw_original(
    canvas: Canvas, image: Image.Image, boxes: np.ndarray, points: np.ndarray, colours: Sequence[Colour]
) -> None:
    """Draw the original with its crop boxes, ``points`` (n, 2) of (x, y) in its pixels, and the legend below."""
    scale = fit(image, ORIGINAL_SIDE, ORIGINAL_SIDE)
    x, y = MARGIN, TOP
    bottom = y + image.height * scale
    canvas.text(x, MARGIN, shorten(f"image, {image.width} x {image.height} pixels", ORIGINAL_SIDE))
    canvas.paste(image, (x, y), scale)
    labels = []
    # The second outline is thinner, so that the first outline still shows where both coincide.
    for i, (box, colour, width) in enumerate(zip(boxes, VIEW_COLOURS, (4, 2))):
        (left, right), (upper, lower) = sorted(box[[0, 2]]), box[[1, 3]]
        corners = (x + left * scale, y + upper * scale, x + right * scale, y + lower * scale)
        canvas.box(corners, colour, width)
        labels.append((f"view {i + 1}", corners, colour))
    draw_crop_legend(canvas, boxes, bottom + GAP)
    dots = [(x + point[0] * scale, y + point[1] * scale) for point in points]
    for dot, colour in zip(dots, colours):
        canvas.dot(dot, colour, radius=3)
    draw_labels(canvas, labels, (x, y, x + image.width * scale, bottom), avoid=[_around(dot, (9, 9)) for dot in dots])


def draw_crop_legend(canvas: Canvas, boxes: np.ndarray, top: float) -> None:
    """Write names and sizes of both crops in their colours, in the left column from ``top`` on: a line each."""
    for i, (box, colour) in enumerate(zip(boxes, VIEW_COLOURS)):
        y = top + i * LINE
        text = f"{view_name(i, box)}: {abs(box[2] - box[0]):.0f} x {box[3] - box[1]:.0f} pixels"
        canvas.fill((MARGIN, y + 3, MARGIN + 12, y + 15), colour)
        canvas.text(MARGIN + 20, y, shorten(text, ORIGINAL_SIDE - 20), colour)


def draw_view(
    canvas: Canvas, view: np.ndarray, corner: tuple[float, float], grid: tuple[int, int], colour: Colour
) -> None:
    """Draw a view with the lines of its ``grid`` (H, W), its upper left corner at ``corner``."""
    image = _as_image(view)
    x, y = corner
    canvas.paste(image, corner, fit(image, VIEW_SIDE, VIEW_SIDE))
    for i in range(1, grid[1]):
        canvas.fill(_around((x + i * VIEW_SIDE / grid[1], y + VIEW_SIDE / 2), (1, VIEW_SIDE)), GRID_COLOUR)
    for i in range(1, grid[0]):
        canvas.fill(_around((x + VIEW_SIDE / 2, y + i * VIEW_SIDE / grid[0]), (VIEW_SIDE, 1)), GRID_COLOUR)
    canvas.box((x, y, x + VIEW_SIDE, y + VIEW_SIDE), colour, 2)


def draw_pairs(
    canvas: Canvas,
    corners: Sequence[tuple[float, float]],
    positives: np.ndarray,
    grids: Grids,
    queries: np.ndarray,
    colours: Sequence[Colour],
) -> None:
    """Draw bins, lines and dots of ``queries``; dots come last, so that no line crosses them."""
    starts, ends = (bin_pixels(grid, VIEW_SIDE) + corner for grid, corner in zip(grids, corners))
    sizes = [(VIEW_SIDE / width, VIEW_SIDE / height) for height, width in grids]
    pairs = [(query, np.flatnonzero(positives[query]), colour) for query, colour in zip(queries, colours)]
    for query, keys, colour in pairs:
        canvas.fill(_around(starts[query], sizes[0]), (*colour, 110))
        for key in keys:
            canvas.fill(_around(ends[key], sizes[1]), (*colour, 110))
    for query, keys, colour in pairs:
        # Many lines would close to a solid fan.
        strokes: list[tuple[Colour, float]]
        strokes = [(HALO, 3), (colour, 1.5)] if len(keys) <= MAX_THICK_LINES else [((*colour, 110), 0.5)]
        for line_colour, width in strokes:
            for key in keys:
                canvas.line(starts[query], ends[key], line_colour, width)
    for query, keys, colour in pairs:
        for key in keys:
            canvas.dot(ends[key], colour, radius=min(3.5, 0.3 * min(sizes[1])))
        canvas.dot(starts[query], colour, radius=5)


def _around(centre: Sequence[float], size: tuple[float, float]) -> tuple[float, float, float, float]:
    """Return the corners (x0, y0, x1, y1) of a rectangle of ``size`` (width, height) around ``centre``."""
    (x, y), (width, height) = centre, size
    return x - width / 2, y - height / 2, x + width / 2, y + height / 2
