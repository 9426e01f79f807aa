"""Bring a teacher's features to the bins of a student, and compare both; pure functions, all in float32.

Shape shorthand: N images, C channels, a student's level of H x W bins.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from ..distributed import sum_over_processes, world_size
from .correspondence import bin_centers
from .losses import mean_over_images
from .unit import unit

FLAT_SHARE = 1e-5  # a standard deviation below this share of a channel's mean is rounding


def positions_in(boxes_q: Tensor, boxes_k: Tensor, grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Find the bins of one view in another view of the same image.

    Args:
        boxes_q, boxes_k: (N, 4) signed boxes of both views in one unit; x0 > x1 for a mirrored view.
        grid: (H, W) of the first view's level.

    Returns:
        The centres of the bins as (x, y) in shares of the second view, as the network sees it: (N, H, W, 2) float32.
        A mask (N, H, W) of the bins whose centre lies inside the second view.
    """
    start, end = boxes_k.float()[:, None].split(2, dim=2)
    positions = ((bin_centers(boxes_q, grid) - start) / (end - start)).unflatten(1, grid)
    return positions, ((positions >= 0) & (positions <= 1)).all(dim=3)


def sample_at(features: Tensor, positions: Tensor) -> Tensor:
    """Resample feature maps at positions, bilinearly; beyond the centres of the outer cells their values repeat.

    A map that is finer than the grid of the positions is averaged first, so that each of its cells counts: over the
    largest whole number of cells that divides the map and is not above the ratio of the sizes. A map that rises
    linearly keeps its values by this.

    Args:
        features: (N, C, h, w), without gradient.
        positions: (N, H, W, 2), from :func:`positions_in`.

    Returns:
        (N, C, H, W) float32.
    """
    features = features.float()
    height, width = features.shape[2:]
    factors = _pooling(height, positions.shape[1]), _pooling(width, positions.shape[2])
    if factors != (1, 1):
        features = F.avg_pool2d(features, factors)
    return F.grid_sample(features, 2 * positions - 1, padding_mode="border", align_corners=False)


def _pooling(cells: int, bins: int) -> int:
    """Return the largest divisor of ``cells`` that is at most ``cells / bins``; at least 1."""
    return max(factor for factor in range(1, max(cells // bins, 1) + 1) if cells % factor == 0)


def standardized(maps: Sequence[Tensor]) -> list[Tensor]:
    """Return maps (N, C, h, w) whose channels have mean 0 and standard deviation 1 over all pixels of all processes.

    The features of a network share a large mean vector. Raw features of any two pixels then have nearly equal
    directions, so a cosine would say little. Channels of a large scale would also rule a smooth L1 loss. A channel
    without variance becomes 0.

    Args:
        maps: of equal shapes in all processes, without gradient.
    """
    maps = [x.float() for x in maps]
    count = world_size() * sum(x[:, 0].numel() for x in maps)
    mean = sum_over_processes(_sum_over_pixels(maps)) / count
    centered = [x - mean[:, None, None] for x in maps]
    deviation = (sum_over_processes(_sum_over_pixels([x.square() for x in centered])) / count).sqrt()
    varies = deviation > FLAT_SHARE * mean.abs()
    scale = torch.where(varies, deviation, 1).reciprocal() * varies
    return [x * scale[:, None, None] for x in centered]


def _sum_over_pixels(maps: Sequence[Tensor]) -> Tensor:
    return torch.stack([x.sum(dim=(0, 2, 3)) for x in maps]).sum(dim=0)


def cosine_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Return 1 - cos of the vectors (N, C, H, W) at each bin, (N, H, W) in [0, 2]."""
    return 1 - (unit(student) * unit(teacher)).sum(dim=1)


def smooth_l1(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the smooth L1 loss (beta 1) of (N, C, H, W), averaged over the channels, (N, H, W)."""
    return F.smooth_l1_loss(student.float(), teacher.float(), reduction="none").mean(dim=1)


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"cosine": cosine_distance, "smooth_l1": smooth_l1}


def mean_over_bins(values: Tensor, counted: Tensor) -> Tensor:
    """Average values (N, H, W) over the counted bins of each image, then over the images with such a bin.

    Args:
        counted: (N, H, W) bool.

    Returns:
        0-d; 0 with a graph if no bin counts, so that no process of a distributed run skips its backward pass.
    """
    bins = counted.sum(dim=(1, 2))
    means = (values * counted).sum(dim=(1, 2)) / bins.clamp(min=1)
    return mean_over_images(means, bins > 0, "matched")
