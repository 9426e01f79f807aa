"""Numbers that tell whether dense pre-training is healthy, without labels; pure functions, no host synchronisation.

Shape shorthand: as in :mod:`pixpro_d2.modeling.losses`.
"""

import torch
import torch.nn.functional as F


def unit(x):
    """L2-normalise (N, C, H, W) over C, in float32."""
    return F.normalize(x.float(), dim=1)


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
