"""Losses of one direction (queries of one view against keys of the other), as pure functions.

Shape shorthand: N images, C dimensions, an H x W feature map has L = H * W pixels. Queries ``q`` and
keys ``k`` are (N, C, H, W) and L2-normalised over C; ``positives`` is the (N, Lq, Lk) bool mask of
:func:`pixpro_d2.modeling.pretrain.correspondence.positive_pairs`.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from ...utils.errors import UsageError
from ..distributed import mean_over_processes, sum_over_processes, world_size
from .chunks import image_chunks
from .unit import unit

STD_EPSILON = 1e-4  # added to a variance before its root, as in VICReg's code: the slope stays finite at 0


def mean_over_images(values: Tensor, counted: Tensor, mean_over: str) -> Tensor:
    """Average per-image ``values`` (N,) over ``all`` images, or over the images ``counted`` (N,) bool (``matched``).

    ``matched`` divides by the mean number of counted images over the processes. The mean of the results over the
    processes then equals the result of one process with all images, and so do the gradients.
    """
    if mean_over == "all":
        return values.mean()
    count = mean_over_processes(counted.sum())
    return (values * counted).sum() / count.masked_fill(count == 0, 1)


def pixpro_loss(q: Tensor, k: Tensor, positives: Tensor, mean_over: str = "all") -> Tensor:
    """Compute the pixel-to-propagation consistency of one direction (paper Eq. 5), in [-2, 2].

    The loss is -2 times the mean cosine of an image's positive pairs, averaged over images. It equals
    ``regression_loss`` of the official code; both directions together are twice the paper's loss.

    Args:
        mean_over: ``all`` counts an image without a positive pair as 0 (official code),
            ``matched`` skips the image (paper).

    Returns:
        0-d, float32; 0 with a zero gradient if nothing matches.
    """
    q, k = q.float().flatten(2), k.float().flatten(2)
    count = positives.sum(dim=(1, 2))
    # sum_ij m_ij q_i.k_j = sum_i q_i.(sum_j m_ij k_j): no similarity is computed, and no whole mask exists in float.
    parts = image_chunks(len(q), q.shape[2] * k.shape[2])
    matched_keys = torch.cat([k[part] @ positives[part].transpose(1, 2).float() for part in parts])  # (N, C, Lq)
    cosine = (q * matched_keys).sum(dim=(1, 2)) / (count + 1e-6)
    return -2 * mean_over_images(cosine, count > 0, mean_over)


def pixcontrast_loss(q: Tensor, k: Tensor, positives: Tensor, temperature: float) -> Tensor:
    """Compute the pixel contrast of one direction (paper Eq. 2), >= 0.

    Each query with at least one positive is contrasted with all pixels of the other view of its image. The loss is
    averaged over these queries, then over the images that have such a query.

    Args:
        temperature: tau.

    Returns:
        0-d, float32; 0 if nothing matches, still with a graph, so that no process of a
        distributed run skips its backward pass.
    """
    logits = q.float().flatten(2).transpose(1, 2) @ k.float().flatten(2) / temperature  # (N, Lq, Lk)
    matched = positives.any(dim=2)  # (N, Lq)
    # The logsumexp over no positives would be -inf. A query without positives gets all pixels, so a loss of 0.
    positives = positives | ~matched[:, :, None]
    log_positive = logits.masked_fill(~positives, float("-inf")).logsumexp(dim=2)
    loss = logits.logsumexp(dim=2) - log_positive
    count = matched.sum(dim=1)
    per_image = (loss * matched).sum(dim=1) / count.clamp(min=1)
    return mean_over_images(per_image, count > 0, "matched")


def byol_loss(p: Tensor, k: Tensor) -> Tensor:
    """Return -2 times the mean cosine of L2-normalised vectors ``p`` and ``k`` (N, C), in [-2, 2] (official code)."""
    return -2 * (p.float() * k.float()).sum(dim=1).mean()


def infonce_loss(q: Tensor, keys: Tensor, offset: int, temperature: float) -> Tensor:
    """Compute the instance contrast of SimCLR with momentum keys, >= 0.

    Args:
        q: (N, C) queries, L2-normalised.
        keys: (M, C) keys of all processes; row ``offset + i`` is the positive of query i, the
            others are its negatives.
        offset: row at which this process's keys start in ``keys``.
        temperature: tau.
    """
    logits = q.float() @ keys.float().T / temperature
    return F.cross_entropy(logits, offset + torch.arange(len(q), device=q.device))


def variance_covariance(projections: Tensor) -> tuple[Tensor, Tensor]:
    """Return how far projections are from spread and uncorrelated channels (VICReg, Bardes et al. 2022, 2105.04906).

    Each pixel's vector is scaled to length sqrt(C); the pixels of all images of all processes are the rows. The
    standard deviation of a channel is 1 when the rows are spread evenly.

    Args:
        projections: (N, C, H, W) of one view, of the same shape in every process.

    Returns:
        Two 0-d float32 tensors. ``variance`` (Eq. 1) is the mean over channels of max(0, 1 - standard
        deviation), in [0, 1). ``covariance`` (Eq. 3, 4) is the sum of the squared covariances of different channels,
        divided by C, >= 0.

    Raises:
        UsageError: if there is only one row.
    """
    channels = projections.shape[1]
    rows = unit(projections).transpose(0, 1).flatten(1) * channels**0.5  # (C, rows)
    count = rows.shape[1] * world_size()
    if count < 2:
        raise UsageError(
            "The variance and covariance terms need two pixels or more at each feature level, but this level has one "
            "pixel and the batch one image: raise SOLVER.IMS_PER_BATCH or INPUT.PIXPRO.CROP_SIZE."
        )
    rows = rows - sum_over_processes(rows.sum(dim=1, keepdim=True)) / count
    covariances = sum_over_processes(rows @ rows.T) / (count - 1)
    variances = covariances.diagonal()
    variance = F.relu(1 - (variances + STD_EPSILON).sqrt()).mean()
    covariance = (covariances.square().sum() - variances.square().sum()) / channels
    return variance, covariance
