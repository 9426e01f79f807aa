"""Numbers that show whether dense pre-training is healthy, without labels; pure functions.

The functions that training calls do not synchronise with the host. Shape shorthand: as in `pretrain.losses`.
"""

import torch
from torch import Tensor

from .unit import unit


@torch.no_grad()
def feature_std(features: Tensor) -> Tensor:
    """Return the standard deviation of the unit vectors of all pixels of (N, C, H, W), averaged over C.

    The result is near 1 / sqrt(C) if directions are spread, and 0 if all pixels have one direction (collapse).
    """
    return unit(features).transpose(0, 1).flatten(1).std(dim=1).mean()


@torch.no_grad()
def pair_counts(positives: Tensor) -> tuple[Tensor, Tensor]:
    """Return (positive pairs per image, share of images without a pair) of a bool mask (N, Lq, Lk)."""
    pairs = positives.sum(dim=(1, 2)).float()
    return pairs.mean(), (pairs == 0).float().mean()


@torch.no_grad()
def nearest_pixels(features_q: Tensor, features_k: Tensor) -> Tensor:
    """Find the pixel of ``features_k`` (N, C, H, W) of largest cosine with each of ``features_q``; (N, Lq) int64."""
    similarity = unit(features_q).flatten(2).transpose(1, 2) @ unit(features_k).flatten(2)  # (N, Lq, Lk)
    return similarity.argmax(dim=2)


@torch.no_grad()
def match_accuracy(features_q: Tensor, features_k: Tensor, positives: Tensor) -> Tensor:
    """Return the share of pixels whose nearest neighbour in the other view, by cosine, is a positive, in [0, 1].

    Only pixels that have a positive count. The share is NaN if no pixel has a positive.

    Args:
        features_q, features_k: (N, C, H, W) of the two views.
        positives: (N, Lq, Lk) bool.

    Returns:
        0-d.
    """
    hits, matched = matches(features_q, features_k, positives)
    return hits / matched


@torch.no_grad()
def matches(features_q: Tensor, features_k: Tensor, positives: Tensor) -> tuple[Tensor, Tensor]:
    """Return the numerator and denominator of :func:`match_accuracy`, (hits, pixels), for sums over batches."""
    nearest = nearest_pixels(features_q, features_k)
    hit = positives.gather(2, nearest[:, :, None]).squeeze(2)
    matched = positives.any(dim=2)
    return (hit & matched).sum(), matched.sum()


@torch.no_grad()
def effective_rank(vectors: Tensor) -> Tensor:
    """Return the effective rank of vectors: exp of the entropy of their singular values (Roy & Vetterli 2007).

    Singular values within rounding errors, by the rule of :func:`torch.linalg.matrix_rank`, count as 0. Identical
    vectors then have rank 1 instead of the rank of their rounding errors.

    Args:
        vectors: (N, C) unit vectors; their mean is subtracted.

    Returns:
        0-d, in [1, min(N, C)]; NaN if a vector is not finite.
    """
    if not vectors.isfinite().all():
        return vectors.new_tensor(float("nan"))
    values = torch.linalg.svdvals(vectors - vectors.mean(dim=0))
    rounding = max(vectors.shape) * torch.finfo(vectors.dtype).eps * torch.linalg.matrix_norm(vectors)
    values = torch.where(values > rounding, values, 0)
    shares = values / values.sum().clamp(min=torch.finfo(vectors.dtype).tiny)
    return torch.special.entr(shares).sum().exp()


@torch.no_grad()
def uniformity(vectors: Tensor) -> Tensor:
    """Return the log of the mean of exp(-2 |x - y|^2) over all pairs of unit vectors (N, C), 0-d (Wang & Isola 2020).

    The uniformity is 0 for identical vectors and for a single vector, and -4 for vectors at right angles. The lower,
    the more evenly the vectors lie on the sphere.
    """
    if len(vectors) == 1:
        return vectors.new_zeros(())
    similarity = (4 * (vectors @ vectors.T - 1)).exp()  # |x - y|^2 = 2 - 2 x y
    pairs = len(vectors) * (len(vectors) - 1)
    return (similarity.fill_diagonal_(0).sum() / pairs).log()


@torch.no_grad()
def relative_distance(tensors: list[Tensor], references: list[Tensor]) -> Tensor:
    """Return the Euclidean distance of ``tensors`` from ``references``, as a share of the references' norm; 0-d.

    Args:
        tensors, references: in the same order, of equal shapes and devices.
    """
    gaps = torch._foreach_norm(torch._foreach_sub(tensors, references))
    return torch.stack(gaps).norm() / torch.stack(torch._foreach_norm(references)).norm()
