"""Which pixels of two views are the same physical point.

Shape shorthand: N images; a view's feature map is a grid of H x W bins, L = H * W, row-major.

Coordinates: a view is an axis-aligned crop box (x0, y0, x1, y1) of the original image. Boxes are in
detectron2's continuous pixel coordinates: the left edge of the first pixel is 0, the right edge of
the last is the width. A horizontally flipped view has x0 > x1: bin widths are signed, so that bin
j of the feature map always is the j-th from x0 to x1.

All computations are in float32, also under autocast: identical square crops put 4-neighbours at
1 / sqrt(2) = 0.7071 bin diagonals, just outside the threshold 0.7.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from .chunks import image_chunks
from .view_overlap import corners


def normalize_boxes(
    boxes: Tensor, image_sizes: Tensor, units: str = "normalized", official_rounding: bool = False
) -> Tensor:
    """Turn crop boxes in pixels into the coordinates in which distances are measured.

    Args:
        boxes: (N, 4) signed boxes in pixels of the original images.
        image_sizes: (N, 2), (height, width) of the original images in pixels.
        units: ``normalized`` divides x by the width and y by the height, as official PixPro
            does (anisotropic for non-square images); ``pixel`` keeps pixels.
        official_rounding: use the official code's corners (transform_coord.py): the centres of the crop's
            first and last pixel, where the centre of the image's first pixel is 0; ``normalized`` then divides
            by side - 1.

    Returns:
        (N, 4) float32 boxes.
    """
    boxes = boxes.float()
    if official_rounding:
        far = boxes.roll(2, dims=1)  # a list as index would be copied to the device, and the host would wait
        boxes = boxes - (boxes > far).float()  # the larger edge moves to its last pixel
    if units == "pixel":
        return boxes
    sides = image_sizes.float().flip(-1).repeat(1, 2)  # width, height, width, height
    return boxes / ((sides - 1).clamp(min=1) if official_rounding else sides)


def bin_centers(boxes: Tensor, grid: tuple[int, int]) -> Tensor:
    """Return the centres of the bins of a feature map in the coordinates of ``boxes``.

    Args:
        boxes: (N, 4) signed boxes.
        grid: (H, W).

    Returns:
        (N, L, 2) float32, as (x, y).
    """
    height, width = grid
    x, y = _axis_centers(boxes, grid)
    x = x[:, None, :].expand(-1, height, -1)
    y = y[:, :, None].expand(-1, -1, width)
    return torch.stack((x, y), dim=-1).flatten(1, 2)


def _axis_centers(boxes: Tensor, grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Return x of the columns (N, W) and y of the rows (N, H) of bins."""
    height, width = grid
    boxes = boxes.float()
    start, extent = boxes[:, :2], boxes[:, 2:] - boxes[:, :2]
    steps_x = (torch.arange(width, device=boxes.device, dtype=torch.float32) + 0.5) / width
    steps_y = (torch.arange(height, device=boxes.device, dtype=torch.float32) + 0.5) / height
    return start[:, :1] + extent[:, :1] * steps_x, start[:, 1:] + extent[:, 1:] * steps_y


def bin_diagonals(boxes: Tensor, grid: tuple[int, int]) -> Tensor:
    """Return the diagonal of one bin, (N,) float32, in the units of ``boxes`` (N, 4); ``grid`` is (H, W)."""
    height, width = grid
    boxes = boxes.float()
    return torch.hypot((boxes[:, 2] - boxes[:, 0]) / width, (boxes[:, 3] - boxes[:, 1]) / height)


def pairs_within(centers_q: Tensor, centers_k: Tensor, unit: Tensor, pos_ratio: float) -> Tensor:
    """Find the pairs of points that are closer than ``pos_ratio`` units.

    Args:
        centers_q, centers_k: (N, Lq, 2) and (N, Lk, 2) points in one coordinate system.
        unit: (N,) unit of distance.
        pos_ratio: threshold T; strict, as in the official code.

    Returns:
        (N, Lq, Lk) bool.
    """
    limit = (pos_ratio * unit).square()[:, None, None]
    pairs = []
    for part in image_chunks(len(unit), centers_q.shape[1] * centers_k.shape[1]):
        # Differences rather than torch.cdist's expanded squares, which cancel near the threshold.
        dx = (centers_q[part, :, None, 0] - centers_k[part, None, :, 0]).square()
        dy = (centers_q[part, :, None, 1] - centers_k[part, None, :, 1]).square()
        pairs.append(dx + dy < limit[part])
    return torch.cat(pairs)


def positive_pairs(
    boxes_q: Tensor, boxes_k: Tensor, grid_q: tuple[int, int], grid_k: tuple[int, int], pos_ratio: float
) -> Tensor:
    """Find the positive pairs of two views by the distance of their bins in the original image (paper Eq. 1).

    The unit of distance is the larger of the two bin diagonals, as in the official code.

    Args:
        boxes_q, boxes_k: (N, 4) signed boxes of the two views, as from :func:`normalize_boxes`.
        grid_q, grid_k: (H, W) of the two feature maps.
        pos_ratio: threshold T in bin diagonals (0.7 in the paper).

    Returns:
        (N, Lq, Lk) bool; [n, i, j] is set if bin i of the first view and bin j of the second match.
        Swapping the views gives the transposed mask.
    """
    limit = (pos_ratio * torch.maximum(bin_diagonals(boxes_q, grid_q), bin_diagonals(boxes_k, grid_k))).square()
    (x_q, y_q), (x_k, y_k) = _axis_centers(boxes_q, grid_q), _axis_centers(boxes_k, grid_k)
    # A column's distance is the same in all rows. So each pair of bins needs only a sum and a comparison.
    dx = (x_q[:, :, None] - x_k[:, None]).square()[:, None, :, None]  # (N, 1, Wq, 1, Wk)
    dy = (y_q[:, :, None] - y_k[:, None]).square()[:, :, None, :, None]  # (N, Hq, 1, Hk, 1)
    parts = image_chunks(len(boxes_q), math.prod(grid_q) * math.prod(grid_k))
    pairs = torch.cat([dx[part] + dy[part] < limit[part].view(-1, 1, 1, 1, 1) for part in parts])
    return pairs.flatten(3).flatten(1, 2)


def box_overlap(first: Tensor, second: Tensor) -> Tensor:
    """Return the intersection of pairs of boxes as a share of the smaller box's area, (N,) float32 in [0, 1].

    Args:
        first, second: (N, 4) signed boxes of one unit.
    """
    (low0, high0), (low1, high1) = corners(first), corners(second)
    shared = (torch.minimum(high0, high1) - torch.maximum(low0, low1)).clamp(min=0).prod(dim=1)
    return shared / torch.minimum((high0 - low0).prod(dim=1), (high1 - low1).prod(dim=1))


class BoxCorrespondence:
    """Find the positive pairs of two crops of one image: the pixels that lie close together in the image.

    A model calls :meth:`geometry` once for a batch. Then it calls the object itself once for each level, with the
    result of ``geometry``. Subclasses may return another type of geometry from ``geometry``.
    """

    def __init__(
        self,
        pos_ratio: float,
        distance_units: str = "normalized",
        official_rounding: bool = False,
        min_overlap: float = 0.0,
    ) -> None:
        """
        Args:
            pos_ratio: threshold T of :func:`positive_pairs`.
            distance_units, official_rounding: as in :func:`normalize_boxes`.
            min_overlap: overlap of the crops that the loader aims at, see :func:`box_overlap`; 0 for none.
        """
        self.pos_ratio = pos_ratio
        self.distance_units = distance_units
        self.official_rounding = official_rounding
        self.min_overlap = min_overlap

    def geometry(self, batch: dict[str, Any], device: torch.device) -> Any:
        """Return both views' boxes (N, 4) on ``device``, a pair of tensors from :func:`normalize_boxes`.

        Args:
            batch: result of :func:`pixpro_d2.data.pretrain.collate.collate`.
            device: device of the boxes.
        """
        sizes = batch["image_sizes"].to(device, non_blocking=True)
        boxes = batch["boxes"].to(device, non_blocking=True).unbind(1)
        return tuple(normalize_boxes(box, sizes, self.distance_units, self.official_rounding) for box in boxes)

    def __call__(self, boxes: Any, grids: Sequence[tuple[int, int]]) -> tuple[Tensor, Tensor]:
        """Find the positive pairs of one level.

        Args:
            boxes: pair of tensors (N, 4), of the first and second view.
            grids: (H, W) of their feature maps.

        Returns:
            (N, L0, L1) and (N, L1, L0) bool, from the first view to the second and back.
        """
        (boxes_q, boxes_k), (grid_q, grid_k) = boxes, grids
        there = positive_pairs(boxes_q, boxes_k, grid_q, grid_k, self.pos_ratio)
        return there, there.transpose(1, 2)

    def monitors(self, boxes: Any) -> dict[str, Tensor]:
        """Return 0-d scalars to record about the result of :meth:`geometry`.

        With a minimum overlap, ``pairs_below_overlap`` is the share of images whose crops overlap less, because no
        draw reached the minimum.
        """
        if self.min_overlap <= 0:
            return {}
        below = box_overlap(*boxes) < self.min_overlap - 1e-5  # rounding of the normalised corners
        return {"pairs_below_overlap": below.float().mean()}
