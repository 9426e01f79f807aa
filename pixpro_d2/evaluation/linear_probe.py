"""Ridge regression from frozen features, in closed form, and the scores of its predictions; pure functions."""

import torch
from torch import Tensor

RIDGE_STRENGTH = 0.1  # times the number of vectors; coarse levels have fewer vectors than channels


@torch.no_grad()
def ridge(vectors: Tensor, targets: Tensor, strength: float = RIDGE_STRENGTH) -> tuple[Tensor, Tensor]:
    """Fit a ridge regression in float64; the offset is not penalised.

    Args:
        vectors: (N, C). Each channel is standardised; a constant channel is ignored.
        targets: (N, K).
        strength: strength of the penalty on the weights of standardised channels, times N.

    Returns:
        Weights (C, K) and offset (K,) for ``vectors`` that are not standardised, in float64.
    """
    x, y = vectors.double(), targets.double()
    mean, std = x.mean(dim=0), x.std(dim=0, correction=0)
    scale = torch.where(std > 1e-7 * x.abs().amax(dim=0), std.reciprocal(), 0)
    x = (x - mean) * scale
    # A constant channel gets the weight 0 with any penalty.
    penalty = torch.where(scale > 0, strength * len(x), 1.0).to(x.dtype)
    weights = scale[:, None] * torch.linalg.solve(x.T @ x + penalty.diag(), x.T @ (y - y.mean(dim=0)))
    return weights, y.mean(dim=0) - mean @ weights


@torch.no_grad()
def ridge_r2(vectors: tuple[Tensor, Tensor], values: tuple[Tensor, Tensor], strength: float = RIDGE_STRENGTH) -> float:
    """Return R2 of a ridge regression to ``values``, fitted on one half and tested on the other.

    Args:
        vectors: (N, C) to fit on, (M, C) to test on.
        values: (N,) and (M,).

    Returns:
        1 for perfect predictions, 0 if every prediction is the mean, negative for worse predictions. NaN if all test
        values are equal.
    """
    weights, offset = ridge(vectors[0], values[0][:, None], strength)
    truth = values[1].double()
    residual = truth - (vectors[1].double() @ weights + offset)[:, 0]
    total = (truth - truth.mean()).square().sum()
    return (1 - residual.square().sum() / total).item() if total > 0 else float("nan")


@torch.no_grad()
def ridge_classes(vectors: tuple[Tensor, Tensor], labels: Tensor, num_classes: int) -> Tensor:
    """Return the classes (M,) of ``vectors[1]`` by a ridge regression to one-hot classes of ``vectors[0]``.

    Args:
        vectors: (N, C) to fit on, (M, C) to classify.
        labels: (N,) int64 in [0, num_classes).
    """
    weights, offset = ridge(vectors[0], torch.nn.functional.one_hot(labels, num_classes))
    return (vectors[1].double() @ weights + offset).argmax(dim=1)


def mean_iou(predicted: Tensor, labels: Tensor, num_classes: int) -> float:
    """Return the mean IoU, in [0, 1], over the classes in ``labels`` (M,); NaN without labels.

    Args:
        predicted, labels: (M,) int64 in [0, num_classes).
    """
    hits = torch.bincount(labels[predicted == labels], minlength=num_classes).double()
    truth = torch.bincount(labels, minlength=num_classes)
    union = truth + torch.bincount(predicted, minlength=num_classes) - hits
    return (hits / union)[truth > 0].mean().item()
