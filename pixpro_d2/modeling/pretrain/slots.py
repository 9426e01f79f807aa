"""The mathematics of SlotCon (Wen et al., NeurIPS 2022, arXiv 2205.15288), as pure functions.

Shape shorthand: N images, C dimensions, K prototypes, L = H * W pixels of a feature map, M slots of an image that are
kept, at most. Scores are cosines of pixels and prototypes, (N, K, H, W). No function waits for the device.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..distributed import mean_over_processes
from .unit import unit
from .view_overlap import ViewOverlap

ATTENTION_FLOOR = 1e-6  # added to the attention: a prototype without any attention gets the mean of all pixels


def prototype_scores(features: Tensor, prototypes: Tensor) -> Tensor:
    """Return the cosine of each pixel with each prototype, (N, K, H, W) float32.

    Args:
        features: (N, C, H, W), L2-normalised over C.
        prototypes: (K, C), of any length.
    """
    return (unit(prototypes) @ features.float().flatten(2)).unflatten(2, features.shape[2:])


def resample_overlap(maps: Tensor, overlap: ViewOverlap) -> Tensor:
    """Cut the common part out of maps (N, K, H, W) and resize it to H x W, without mirroring.

    The value of an output cell is bilinear at the cell's centre; beyond the centres of the outer cells of ``maps``
    their values repeat. Two views of one image are then aligned cell by cell. Maps without an overlap become 0.

    The weights are two small matrices for each image. So the backward pass adds in a fixed order, unlike the backward
    pass of ``grid_sample`` on a GPU.
    """
    height, width = maps.shape[2:]
    x0, y0, x1, y1 = overlap.boxes.unbind(1)
    across = _bilinear_weights(x0, x1, width)
    across = torch.where(overlap.flipped[:, None, None], across.flip(1), across)
    down = _bilinear_weights(y0, y1, height)
    across, down = (weights * overlap.exists[:, None, None] for weights in (across, down))
    return down[:, None] @ maps.float() @ across[:, None].transpose(2, 3)


def _bilinear_weights(start: Tensor, stop: Tensor, size: int) -> Tensor:
    """Return the weights (N, size, size) of the cells of a line, for output cells from ``start`` to ``stop`` (N,)."""
    cells = torch.arange(size, device=start.device, dtype=torch.float32)
    centers = start[:, None] * size - 0.5 + (cells + 0.5) * (stop - start)[:, None]
    centers = centers.clamp(0, size - 1)
    return (1 - (centers[:, :, None] - cells).abs()).clamp(min=0)


def grouping_losses(
    online: Tensor, target: Tensor, center: Tensor, online_temperature: float, target_temperature: float
) -> Tensor:
    """Return how far the assignment of the online branch is from the target's, (N,) cross-entropies, >= 0.

    Args:
        online, target: (N, K, H, W) scores of the common part by either branch, from the two views.
        center: (K,), subtracted from the target's scores.
        online_temperature, target_temperature: of the softmax over the prototypes.

    Returns:
        The mean over the pixels of each image; the gradient reaches ``online`` only.
    """
    wanted = ((target.detach() - center[:, None, None]) / target_temperature).softmax(dim=1)
    logarithms = (online / online_temperature).log_softmax(dim=1)
    return -(wanted * logarithms).sum(dim=1).mean(dim=(1, 2))


@torch.no_grad()
def updated_center(center: Tensor, scores: Sequence[Tensor], momentum: float) -> Tensor:
    """Return the moving average of the target's scores after a batch; all processes must call this.

    The average stays as it is if a score is not finite, from a bad batch.

    Args:
        center: (K,) before the batch.
        scores: of all pixels of both whole views, (N, K, H, W) each.
        momentum: share of the old average.
    """
    mean = mean_over_processes(torch.stack([x.mean(dim=(0, 2, 3)) for x in scores]).mean(dim=0))
    return torch.where(mean.isfinite().all(), momentum * center + (1 - momentum) * mean, center)


def attention(scores: Tensor, temperature: float) -> Tensor:
    """Return the share of each prototype in each pixel, (N, K, L): a softmax over the prototypes, plus a little."""
    return (scores.flatten(2) / temperature).softmax(dim=1) + ATTENTION_FLOOR


def pool_slots(shares: Tensor, features: Tensor) -> Tensor:
    """Return slots (N, M, C): means of the features (N, C, H, W), weighted by ``shares`` (N, M, L)."""
    return shares @ features.float().flatten(2).transpose(1, 2) / shares.sum(dim=2, keepdim=True)


def least_pixels(share: float, pixels: int) -> int:
    """Return how many pixels a prototype must win in a view of ``pixels`` pixels: ``share`` of them, at least one."""
    return max(1, math.ceil(share * pixels))


@torch.no_grad()
def present_slots(scores: Tensor, least: int) -> Tensor:
    """Return which prototypes have the highest score in at least ``least`` pixels of a view, (N, K) bool."""
    winners = scores.flatten(2).argmax(dim=1)  # (N, L)
    won = torch.zeros(scores.shape[:2], dtype=torch.int64, device=scores.device)
    return won.scatter_add_(1, winners, torch.ones_like(winners)) >= least


@torch.no_grad()
def present_first(present: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """Find the present prototypes of each image without waiting for their number.

    Args:
        present: (N, K) bool, at most ``most`` of an image's K.
        most: M.

    Returns:
        (N, M) int64 numbers of prototypes, the present prototypes first, and (N, M) bool, which of them are present.
    """
    order = present.to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, :most]
    return order, present.gather(1, order)


def slot_contrast(queries: Tensor, keys: Tensor, is_key: Tensor, offset: int, temperature: float) -> Tensor:
    """Return the contrast of each query with the keys of all images, (Q,), >= 0 where the query's own key counts.

    Args:
        queries: (Q, C), L2-normalised.
        keys: (P, C) of all processes, L2-normalised, without a graph.
        is_key: (P,) bool, the keys that count; all count if none does.
        offset: row of ``keys`` that is the positive of query 0; the positive of query i is i rows later.
        temperature: tau.
    """
    own = keys[offset : offset + len(queries)]
    positive = (queries * own).sum(dim=1) / temperature
    ignored = ~(is_key | ~is_key.any())
    logits = (queries @ keys.T / temperature).masked_fill(ignored, float("-inf"))
    return logits.logsumexp(dim=1) - positive


@torch.no_grad()
def assignment_statistics(scores: Tensor, center: Tensor, temperature: float) -> dict[str, Tensor]:
    """Return 0-d numbers that show whether the prototypes of a level are alive.

    Args:
        scores: (N, K, H, W) of the target branch.
        center, temperature: as for :func:`grouping_losses`.

    Returns:
        * prototypes_in_use: prototypes that win a pixel of the batch;
        * largest_prototype: share of the pixels that the most frequent prototype wins;
        * assignment_entropy: mean entropy of a pixel's assignment, in nats; log K if assignments say nothing;
        * prototype_entropy: entropy of the mean assignment; log K if prototypes are used evenly, 0 after a collapse;
        * center_norm: length of the centre.
    """
    shares = ((scores - center[:, None, None]) / temperature).softmax(dim=1).transpose(0, 1).flatten(1)  # (K, N L)
    winners = scores.argmax(dim=1).flatten()
    won = torch.zeros(scores.shape[1], device=scores.device).scatter_add_(0, winners, torch.ones_like(winners).float())
    return {
        "prototypes_in_use": (won > 0).sum().float(),
        "largest_prototype": won.max() / len(winners),
        "assignment_entropy": torch.special.entr(shares).sum(dim=0).mean(),
        "prototype_entropy": torch.special.entr(shares.mean(dim=1)).sum(),
        "center_norm": torch.linalg.vector_norm(center),
    }
