"""Labels of a data set's dict as a map of classes, and a map of classes at the grid of a feature."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from detectron2.structures import BoxMode

from ..data.datasets.semseg import IGNORE_LABEL, read_label

NO_CLASS = -1  # value of unlabelled pixels, in place of IGNORE_LABEL, which may be a class of boxes


def read_classes(image: dict[str, Any], size: tuple[int, int]) -> np.ndarray:
    """Return the classes (height, width) of the pixels of an image, int64; NO_CLASS for unlabelled pixels.

    Args:
        image: dataset dict with ``sem_seg_file_name``, or with ``annotations``; see :func:`box_classes`.
        size: (width, height) of the upright image.

    Raises:
        UsageError: for a label map of another size.
    """
    if "sem_seg_file_name" not in image:
        return box_classes(image["annotations"], size)
    labels = read_label(image["sem_seg_file_name"], size).astype(np.int64)
    return np.where(labels == IGNORE_LABEL, NO_CLASS, labels)


def box_classes(annotations: list[dict[str, Any]], size: tuple[int, int]) -> np.ndarray:
    """Return 0 for background and 1 + class in boxes; smaller boxes cover larger boxes, crowds are NO_CLASS."""
    width, height = size
    classes = np.zeros((height, width), dtype=np.int64)
    boxes = [(BoxMode.convert(list(x["bbox"]), x["bbox_mode"], BoxMode.XYXY_ABS), x) for x in annotations]
    for (x0, y0, x1, y1), x in sorted(boxes, key=lambda pair: -_area(pair[0])):
        columns = slice(max(0, round(x0)), max(0, round(x1)))
        rows = slice(max(0, round(y0)), max(0, round(y1)))
        classes[rows, columns] = NO_CLASS if x.get("iscrowd", 0) else 1 + x["category_id"]
    return classes


def majority_grid(classes: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """Return the most frequent class of each cell; the smallest of equals, NO_CLASS without labelled pixels.

    Args:
        classes: (height, width) int64.
        grid: rows and columns, at most as many as pixels; each pixel counts in one cell.

    Returns:
        ``grid`` int64.
    """
    rows, columns = (np.arange(n) * cells // n for n, cells in zip(classes.shape, grid))
    cells = rows[:, None] * grid[1] + columns
    known = classes != NO_CLASS
    kinds = int(classes[known].max(initial=0)) + 1
    votes = np.bincount(cells[known] * kinds + classes[known], minlength=grid[0] * grid[1] * kinds)
    votes = votes.reshape(-1, kinds)
    return np.where(votes.any(axis=1), votes.argmax(axis=1), NO_CLASS).reshape(grid)


def _area(box: Sequence[float]) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])
