"""Batches of test images of the same size, which need no padding."""

from collections.abc import Iterable, Sequence
from typing import Any

from detectron2.config import CfgNode
from detectron2.data.transforms import ResizeShortestEdge

MAX_PIXELS = 2**20  # of the images of a batch, as read or as resized; a larger image has a batch of its own

Size = tuple[int, int]  # (height, width) in pixels


def resized_sizes(cfg: CfgNode, images: Sequence[dict[str, Any]]) -> list[tuple[Size, int]] | None:
    """Return for each test image its size after resizing, and the pixels that it counts in MAX_PIXELS.

    Predictions have the size of the image as read, so the larger of both sizes counts.

    Args:
        cfg: config of a downstream task.
        images: detectron2 dataset dicts.

    Returns:
        None if a dict lacks the size of its image.
    """
    if not all("height" in image and "width" in image for image in images):
        return None
    found = []
    for image in images:
        read = resized = (image["height"], image["width"])
        if cfg.INPUT.MIN_SIZE_TEST:
            resized = ResizeShortestEdge.get_output_shape(*read, cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST)
        found.append((resized, max(read[0] * read[1], resized[0] * resized[1])))
    return found


def group_by_size(
    indices: Iterable[int], sizes: Sequence[tuple[Size, int]] | None, max_images: int, max_pixels: int = MAX_PIXELS
) -> list[list[int]]:
    """Group images of the same size to batches, in the order of their first images.

    Args:
        indices: numbers of the images.
        sizes: (size, pixels) of each image, by its number; None gives each image a batch of its own.
        max_images: largest number of images in a batch.
        max_pixels: largest sum of pixels in a batch of several images.
    """
    if sizes is None:
        return [[index] for index in indices]
    batches: list[list[int]] = []
    open_batches: dict[Size, tuple[list[int], int]] = {}  # size -> the batch that still takes images, and its pixels
    for index in indices:
        size, pixels = sizes[index]
        batch, total = open_batches.get(size, ([], 0))
        if not batch or len(batch) == max_images or total + pixels > max_pixels:
            batch, total = [], 0
            batches.append(batch)
        batch.append(index)
        open_batches[size] = batch, total + pixels
    return batches
