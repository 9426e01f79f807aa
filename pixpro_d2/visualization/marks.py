"""Marks over a panel: dots, lines and crosses on a dark halo, and borders of bins."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PolyCollection
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke

HALO = (0.0, 0.0, 0.0, 0.6)  # colour under lines and dots, so that they stand out from any picture

Colours = str | Sequence[str]  # of all marks, or of each


def draw_dots(axes: Axes, points: np.ndarray, colours: Colours, radius: float = 4.0) -> None:
    """Draw filled circles of ``radius`` pixels at (n, 2) ``points``, with dark edges."""
    x, y = np.reshape(points, (-1, 2)).T
    axes.scatter(x, y, s=(2 * radius + 1.5) ** 2, c=colours, linewidths=1.5, edgecolors=HALO, zorder=3)


def draw_crosses(axes: Axes, points: np.ndarray, colours: Colours, radius: float, width: float = 1.2) -> None:
    """Draw diagonal crosses of ``radius`` pixels at (n, 2) ``points``."""
    x, y = np.reshape(points, (-1, 2)).T
    halo = [withStroke(linewidth=2 * width + 1, foreground=HALO)]
    axes.scatter(x, y, s=(2 * radius) ** 2, c=colours, linewidths=width, marker="x", path_effects=halo, zorder=3)


def draw_lines(axes: Axes, lines: np.ndarray, colours: Colours, width: float = 1.5, faint: bool = False) -> None:
    """Draw straight ``lines`` (n, 2, 2), from (x, y) to (x, y); faint lines are translucent and have no halo."""
    strokes: list[tuple[Any, float]] = [(colours, width)] if faint else [(HALO, 2 * width), (colours, width)]
    for stroke_colours, stroke_width in strokes:
        drawn = LineCollection(list(lines), colors=stroke_colours, linewidths=stroke_width, capstyle="projecting")
        if faint:
            drawn.set_alpha(0.43)
        axes.add_collection(drawn, autolim=False)


def draw_box(axes: Axes, corners: Sequence[float], colour: str, width: float = 2.0) -> None:
    """Outline a rectangle with the opposite corners (x0, y0, x1, y1)."""
    x0, y0, x1, y1 = corners
    halo = [withStroke(linewidth=width + 1, foreground=HALO)]
    box = Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, edgecolor=colour, linewidth=width, path_effects=halo)
    axes.add_patch(box)
    box.set_clip_on(False)  # the outline at the edge of a panel keeps its width


def fill_boxes(axes: Axes, boxes: np.ndarray, colours: Colours, opacity: float) -> None:
    """Fill ``boxes`` (n, 4) of corners x0, y0, x1, y1."""
    corners = np.reshape(boxes, (-1, 4))[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2)
    axes.add_collection(PolyCollection(list(corners), facecolors=colours, alpha=opacity, linewidths=0), autolim=False)


def draw_number(axes: Axes, point: np.ndarray, number: int, colour: str) -> None:
    """Draw a numbered dot at a point; at the edge of the panel, move it inside."""
    radius = 9
    size = axes.get_window_extent()
    limits = ((axes.get_xlim()[1], size.width), (axes.get_ylim()[0], size.height))
    inset = [(radius + 2) * end / pixels for end, pixels in limits]
    x, y = (min(max(c, edge), end - edge) for c, edge, (end, _) in zip(point, inset, limits))
    draw_dots(axes, np.array([x, y]), colour, radius)
    axes.text(x, y, str(number), color="black", size=12, ha="center", va="center_baseline", zorder=4)


def bin_boxes(grid: Sequence[int], size: Sequence[float]) -> np.ndarray:
    """Return the corners (H * W, 4) x0, y0, x1, y1 of the bins of a ``grid`` (H, W), row-major, over ``size``."""
    rows, columns = np.divmod(np.arange(grid[0] * grid[1]), grid[1])
    corners = np.stack((columns, rows, columns + 1, rows + 1), axis=1)
    return corners * np.tile(np.divide(size, grid[::-1]), 2)


def centres(boxes: np.ndarray) -> np.ndarray:
    """Return the centres (..., 2) of boxes (..., 4)."""
    return (boxes[..., :2] + boxes[..., 2:]) / 2


def outline(axes: Axes, mask: np.ndarray, colour: str, size: Sequence[float]) -> None:
    """Draw the border of the bins in a ``mask`` (H, W) bool over ``size`` (width, height)."""
    framed = np.pad(mask, 1)
    upright = np.argwhere(framed[1:-1, 1:] != framed[1:-1, :-1])[:, None] + [[0, 0], [1, 0]]  # (row, column)
    level = np.argwhere(framed[1:, 1:-1] != framed[:-1, 1:-1])[:, None] + [[0, 0], [0, 1]]
    lines = np.concatenate((upright, level))[..., ::-1] * np.divide(size, mask.shape[::-1])
    draw_lines(axes, lines, colour, 2)
