"""Picture of the positive pairs of two views: what the pixel loss is computed on."""

import numpy as np
from PIL import Image

from .canvas import Canvas, palette

VIEW_COLOURS = ((255, 196, 0), (0, 200, 255))


def bin_pixels(grid, size):
    """Centres of the bins of a feature map in the pixels of its own view.

    A mirrored view's feature map lies as its pixels lie, so no flip enters here.

    Args:
        grid (tuple[int, int]): (H, W).
        size (int): side of the view in pixels.

    Returns:
        ndarray: (H * W, 2) of (x, y), row-major.
    """
    height, width = grid
    x, y = np.meshgrid((np.arange(width) + 0.5) * size / width, (np.arange(height) + 0.5) * size / height)
    return np.stack((x, y), axis=-1).reshape(-1, 2)


def choose_queries(positives, count):
    """Up to ``count`` bins of view 1 that have a positive, spread evenly over them; ``positives`` is (Lq, Lk) bool."""
    matched = np.flatnonzero(positives.any(axis=1))
    if len(matched) <= count:
        return matched
    return matched[np.linspace(0, len(matched) - 1, count).round().astype(int)]


def describe(positives, grid, pos_ratio):
    """The counts of a mask (Lq, Lk) bool, as a sentence."""
    matched = positives.any(axis=1).mean()
    return (
        f"{int(positives.sum())} positive pairs on a {grid[0]} x {grid[1]} grid at threshold {pos_ratio:g}; "
        f"{matched:.0%} of view 1's bins have one."
    )


def draw_correspondences(image, views, boxes, positives, grid, pos_ratio, max_queries=12, side=400):
    """The original with both crop boxes, both views with their grids, and lines between positive pairs.

    Args:
        image (PIL.Image.Image): the original, RGB.
        views (ndarray): (2, S, S, 3) uint8 RGB.
        boxes (ndarray): (2, 4) signed crop boxes in pixels of the original.
        positives (ndarray): (H * W, H * W) bool; rows are bins of view 1.
        grid (tuple[int, int]): (H, W) of both feature maps.
        pos_ratio (float): threshold, for the caption.
        max_queries (int): bins of view 1 whose pairs are drawn.
        side (int): of a panel in pixels.

    Returns:
        PIL.Image.Image: 3 * side + 80 pixels wide.
    """
    canvas = Canvas(panels=3, side=side, caption_lines=2)
    x0, y0, scale = canvas.paste(0, image)
    canvas.title(0, f"image, {image.width} x {image.height}")
    for box, colour in zip(boxes, VIEW_COLOURS):
        left, right = sorted(box[[0, 2]])
        corners = (x0 + left * scale, y0 + box[1] * scale, x0 + right * scale, y0 + box[3] * scale)
        canvas.box(corners, colour, width=3)
    for i, (box, colour) in enumerate(zip(boxes, VIEW_COLOURS)):
        canvas.paste(i + 1, Image.fromarray(views[i]))
        canvas.title(i + 1, f"view {i + 1}" + (", mirrored" if box[0] > box[2] else ""), colour)
        _draw_grid(canvas, i + 1, grid, colour)

    centres = bin_pixels(grid, side)
    queries = choose_queries(positives, max_queries)
    starts = centres + canvas.origin(1)
    ends = centres + canvas.origin(2)
    for query, colour in zip(queries, palette(len(queries))):
        for key in np.flatnonzero(positives[query]):
            canvas.line([tuple(starts[query]), tuple(ends[key])], (*colour, 200), width=1.5)
            canvas.dot(ends[key], colour)
        canvas.dot(starts[query], colour, radius=5)
    canvas.caption(0, describe(positives, grid, pos_ratio))
    canvas.caption(1, f"Lines: all positive pairs of {len(queries)} bins of view 1.")
    return canvas.finish()


def _draw_grid(canvas, panel, grid, colour):
    x, y = canvas.origin(panel)
    side = canvas.side
    faint = (*colour, 70)
    for i in range(1, grid[1]):
        canvas.line([(x + i * side / grid[1], y), (x + i * side / grid[1], y + side)], faint, 0.5)
    for i in range(1, grid[0]):
        canvas.line([(x, y + i * side / grid[0]), (x + side, y + i * side / grid[0])], faint, 0.5)
    canvas.box((x, y, x + side, y + side), colour, 2)
