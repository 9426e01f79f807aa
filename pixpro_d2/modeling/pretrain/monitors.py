"""Numbers that tell whether dense pre-training is healthy, without labels; pure functions.

None of those that training calls synchronises with the host. Shape shorthand: as in `pretrain.losses`.
"""

import torch

from .unit import unit


@torch.no_grad()
def feature_std(features):
    """Standard deviation of the unit vectors of all pixels of (N, C, H, W), averaged over C.

    Near 1 / sqrt(C) when directions are spread, 0 when all pixels have one direction (collapse).
    """
    return unit(features).transpose(0, 1).flatten(1).std(dim=1).mean()


@torch.no_grad()
def pair_counts(positives):
    """(positive pairs per image, share of images without any) of a bool mask (N, Lq, Lk)."""
    pairs = positives.sum(dim=(1, 2)).float()
    return pairs.mean(), (pairs == 0).float().mean()


@torch.no_grad()
def nearest_pixels(features_q, features_k):
    """Pixel of ``features_k`` (N, C, H, W) most similar to each of ``features_q``, by cosine; (N, Lq) int64."""
    similarity = unit(features_q).flatten(2).transpose(1, 2) @ unit(features_k).flatten(2)  # (N, Lq, Lk)
    return similarity.argmax(dim=2)


@torch.no_grad()
def match_accuracy(features_q, features_k, positives):
    """Share of pixels whose nearest neighbour in the other view, by cosine, is a true positive, in [0, 1].

    Over the pixels that have a positive; NaN if none has.

    Args:
        features_q, features_k (Tensor): (N, C, H, W) of the two views.
        positives (Tensor): (N, Lq, Lk) bool.

    Returns:
        Tensor: 0-d.
    """
    hits, matched = matches(features_q, features_k, positives)
    return hits / matched


@torch.no_grad()
def matches(features_q, features_k, positives):
    """(hits, pixels) that :func:`match_accuracy` is the share of, for sums over batches."""
    nearest = nearest_pixels(features_q, features_k)
    hit = positives.gather(2, nearest[:, :, None]).squeeze(2)
    matched = positives.any(dim=2)
    return (hit & matched).sum(), matched.sum()


@torch.no_grad()
def effective_rank(vectors):
    """How many directions vectors spread in: exp of the entropy of their singular values (Roy & Vetterli 2007).

    Singular values that rounding alone could make, by the rule of :func:`torch.linalg.matrix_rank`, count as 0, so that
    vectors that are all the same have rank 1 rather than that of their rounding errors.

    Args:
        vectors (Tensor): (N, C) unit vectors; their mean is taken off.

    Returns:
        Tensor: 0-d, in [1, min(N, C)]; NaN if a vector is not finite.
    """
    if not vectors.isfinite().all():
        return vectors.new_tensor(float("nan"))
    values = torch.linalg.svdvals(vectors - vectors.mean(dim=0))
    rounding = max(vectors.shape) * torch.finfo(vectors.dtype).eps * torch.linalg.matrix_norm(vectors)
    values = torch.where(values > rounding, values, 0)
    shares = values / values.sum().clamp(min=torch.finfo(vectors.dtype).tiny)
    return torch.special.entr(shares).sum().exp()


@torch.no_grad()
def uniformity(vectors):
    """How evenly unit vectors (N, C) lie on the sphere: log of the mean of exp(-2 |x - y|^2) over all pairs, 0-d.

    From Wang & Isola 2020: 0 when all are the same, a single one too; the lower the more even; -4 for vectors at right
    angles.
    """
    if len(vectors) == 1:
        return vectors.new_zeros(())
    similarity = (4 * (vectors @ vectors.T - 1)).exp()  # |x - y|^2 = 2 - 2 x y
    pairs = len(vectors) * (len(vectors) - 1)
    return (similarity.fill_diagonal_(0).sum() / pairs).log()


@torch.no_grad()
def relative_distance(tensors, references):
    """Euclidean distance of all ``tensors`` from their ``references``, as a share of the latter's norm; 0-d.

    Args:
        tensors, references (list[Tensor]): in the same order, of equal shapes and devices.
    """
    gaps = torch._foreach_norm(torch._foreach_sub(tensors, references))
    return torch.stack(gaps).norm() / torch.stack(torch._foreach_norm(references)).norm()
