"""Quality of dense features without labels: measure a pre-training model on pairs of views of images."""

import logging
import math
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from detectron2.utils import comm
from tabulate import tabulate
from torch import Tensor

from ..data.pretrain.collate import collate
from ..data.pretrain.loader import Mapper, draw_sample
from ..modeling.pretrain.monitors import effective_rank, feature_std, matches, pair_counts, uniformity
from ..modeling.pretrain.pixpro import PixPro
from ..modeling.pretrain.two_branch import LevelComparison
from ..modeling.pretrain.unit import unit
from ..utils.errors import UnreadableImage
from ..utils.modules import eval_mode
from ..utils.retry import Patience
from .linear_probe import ridge_r2

logger = logging.getLogger(__name__)

Rows = list[tuple[Tensor, Tensor]]  # vectors (M, C) and heights (M,) of an image each

BATCH = 32
MAX_HEIGHT_PIXELS = 64  # pixels of an image in the regression to the height
MAX_VECTORS = 4096  # vectors for effective rank and uniformity, which compare all vectors with all
NAMES = (
    "loss",
    "match_accuracy",
    "match_accuracy_projected",
    "chance",
    "effective_rank",
    "effective_rank_projected",
    "height_r2",
    "uniformity",
    "feature_std",
    "healthy_std",
    "feature_std_projected",
    "healthy_std_projected",
    "positive_pairs",
    "images_without_pair",
)


@torch.no_grad()
def measure(
    model: PixPro, mapper: Mapper, images: Sequence[dict[str, Any]], seed: int = 0, retry_seconds: float = 0.0
) -> dict[str, dict[str, float]]:
    """Compare two fixed views of each image, with the running statistics of the model's norms.

    All processes must call this with the same images. An image that one process cannot read is skipped by all.

    Args:
        model: not wrapped in DDP; it does not change.
        mapper: draws the views of an image or video.
        images: dataset dicts.
        seed: seed of the views.
        retry_seconds: see :func:`batches`.

    Returns:
        For each feature of the model

        * loss: both directions, times MODEL.PIXPRO.PIXEL_WEIGHT;
        * match_accuracy, match_accuracy_projected: of the backbone's (or dense head's) features and the projector's,
          both of the online branch, in [0, 1]; see :func:`pixpro_d2.modeling.pretrain.monitors.match_accuracy`;
        * chance: match accuracy of a random choice of pixel;
        * effective_rank, uniformity: of the features of pixels of the first views; see the functions of
          :mod:`pixpro_d2.modeling.pretrain.monitors`;
        * effective_rank_projected: of the projections of the same pixels;
        * height_r2: R2 of a ridge regression from the features of a pixel of the first views to its height in the view,
          fitted and tested on the halves of :func:`split_halves`; NaN for a single image or a single video;
        * feature_std, feature_std_projected: of features and projections of the first views; see
          :func:`pixpro_d2.modeling.pretrain.monitors.feature_std`;
        * healthy_std, healthy_std_projected: 1 / sqrt(C), the value of features that are spread evenly;
        * positive_pairs: per image;
        * images_without_pair: share of the images.

    Raises:
        UnreadableImage: if no image can be read.
    """
    sums: dict[str, dict[str, float]] = {}
    vectors: dict[str, list[Tensor]] = {}
    projected: dict[str, list[Tensor]] = {}
    heights: dict[str, Rows] = {}
    read: list[dict[str, Any]] = []
    with eval_mode(model):
        for samples in batches(mapper, images, seed, retry_seconds):
            losses, comparisons = model.compare(*model.views_and_geometry(collate(list(samples.values()))))
            for level, x in comparisons.items():
                loss = losses[f"loss_pix_{level}"] * len(model.in_features)
                _add_batch(sums.setdefault(level, {}), x, model.projector[level](x.views[1].features), loss)
                pixels = max(1, MAX_VECTORS // len(images))
                vectors.setdefault(level, []).append(_unit_vectors(x.views[0].features, pixels))
                projected.setdefault(level, []).append(_unit_vectors(x.projection, pixels))
                heights.setdefault(level, []).extend(_heights(x.views[0].features))
            read += [images[i] for i in samples]
    halves = split_halves(read)
    return {
        level: _result(total, len(read), vectors[level], projected[level]) | {"height_r2": _r2(heights[level], halves)}
        for level, total in sums.items()
    }


def split_halves(images: Sequence[dict[str, Any]]) -> list[int]:
    """Assign images alternately to the half for a fit, 0, and to the half for its test, 1.

    All runs of a video are in the same half, because its frames resemble each other. The videos alternate in the order
    of their first runs. A single image or a single video leaves the half for the test empty.

    Args:
        images: dataset dicts of images, or of videos, which may repeat.
    """
    numbers: dict[str, int] = {}
    return [
        (numbers.setdefault(image["file_name"], len(numbers)) if "num_frames" in image else i) % 2
        for i, image in enumerate(images)
    ]


def batch_indices(count: int) -> list[np.ndarray]:
    """Split range(count) into batches of at most BATCH, of nearly equal sizes; return the indices of each batch.

    A deviation over a batch needs two images, and the statistics of adapted norms weigh all batches alike.
    """
    return np.array_split(np.arange(count), -(-count // BATCH) or 1)


def batches(
    mapper: Mapper, images: Sequence[dict[str, Any]], seed: int, retry_seconds: float = 0.0
) -> Iterator[dict[int, dict[str, Any]]]:
    """Yield samples of the images that all processes can read, by index, in the batches of :func:`batch_indices`.

    Args:
        mapper: draws the views of an image or video.
        images: dataset dicts.
        seed: seed of the views.
        retry_seconds: how long to retry a file, see :class:`pixpro_d2.utils.retry.Patience`.

    Raises:
        UnreadableImage: if no image can be read.
    """
    patience = Patience(retry_seconds)
    found = False
    for part in batch_indices(len(images)):
        samples: dict[int, dict[str, Any]] = {}
        error = None
        for i in part.tolist():
            try:
                samples[i] = patience.read(partial(draw_sample, mapper, images[i], (seed, i)))
            except UnreadableImage as unreadable:
                error = unreadable
                logger.warning(f"The evaluation skips an image: {error}.")
        readable = set.intersection(*map(set, comm.all_gather(list(samples))))
        if readable:
            found = True
            yield {i: samples[i] for i in sorted(readable)}
    if not found:
        raise error or UnreadableImage("no image can be read in all processes")


def _add_batch(total: dict[str, float], x: LevelComparison, projection: Tensor, loss: Tensor) -> None:
    """Add a level's batch to its sums over images or pixels.

    ``projection`` is the second view's projection by the online branch.
    """
    first, second = x.views
    images = len(x.positives)
    pairs, without = pair_counts(x.positives)
    added = {
        "loss": loss * images,
        "positive_pairs": pairs * images,
        "images_without_pair": without * images,
        "chance": x.positives.float().mean(dim=2)[x.positives.any(dim=2)].sum(),
    }
    for name, pair in (("", (first.features, second.features)), ("_projected", (x.projection, projection))):
        added[f"hits{name}"], added[f"pixels{name}"] = matches(*pair, x.positives)
        added[f"feature_std{name}"] = feature_std(pair[0]) * images
        total[f"channels{name}"] = pair[0].shape[1]
    for name, value in added.items():
        total[name] = total.get(name, 0.0) + float(value)


def _some_pixels(features: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Choose at most ``count`` pixels of (N, C, H, W), the centres of equal tiles.

    Returns:
        vectors (N, M, C) and indices (M,) of the pixels.
    """
    height, width = features.shape[2:]
    rows = min(height, max(math.isqrt(count), count // width))
    columns = min(width, count // rows)
    y, x = ((2 * torch.arange(n) + 1) * size // (2 * n) for n, size in ((rows, height), (columns, width)))
    index = (y[:, None] * width + x).flatten().to(features.device)
    return features.flatten(2)[:, :, index].transpose(1, 2), index


def _unit_vectors(features: Tensor, count: int) -> Tensor:
    """Return unit vectors (M, C) of at most ``count`` pixels of each image."""
    vectors, _ = _some_pixels(unit(features), count)
    return vectors.flatten(0, 1)


def _heights(features: Tensor) -> Rows:
    """Return vectors of some pixels of each image, and the heights of the pixels in [0, 1]."""
    height, width = features.shape[2:]
    vectors, index = _some_pixels(features.float(), MAX_HEIGHT_PIXELS)
    rows = (index // width + 0.5) / height
    return [(image, rows) for image in vectors]


def _r2(heights: Rows, halves: Sequence[int]) -> float:
    """Return R2 of a regression to the heights; NaN if a half is empty or a vector is not finite."""
    if len(set(halves)) < 2:
        return float("nan")
    parts = ([item for item, half in zip(heights, halves) if half == number] for number in (0, 1))
    vectors, rows = zip(*((torch.cat(v), torch.cat(r)) for v, r in (zip(*part) for part in parts)))
    if not all(part.isfinite().all() for part in vectors):
        return float("nan")
    return ridge_r2(vectors, rows)


def _thinned(parts: list[Tensor]) -> Tensor:
    """Return at most MAX_VECTORS vectors, evenly spread, of the joined parts."""
    vectors = torch.cat(parts)
    return vectors[:: -(-len(vectors) // MAX_VECTORS)]


def _result(total: dict[str, float], images: int, parts: list[Tensor], projected: list[Tensor]) -> dict[str, float]:
    vectors = _thinned(parts)
    means = ("loss", "positive_pairs", "images_without_pair", "feature_std", "feature_std_projected")
    result = {name: total[name] / images for name in means}
    for name in ("", "_projected"):
        result[f"match_accuracy{name}"] = total[f"hits{name}"] / max(total[f"pixels{name}"], 1)
        result[f"healthy_std{name}"] = total[f"channels{name}"] ** -0.5
    result["chance"] = total["chance"] / max(total["pixels"], 1)
    result["effective_rank"] = effective_rank(vectors).item()
    result["effective_rank_projected"] = effective_rank(_thinned(projected)).item()
    result["uniformity"] = uniformity(vectors).item()
    return result


def table(levels: dict[str, dict[str, float]]) -> str:
    """Format the result of :func:`measure` as text: a row for each number, a column for each feature."""
    rows = [[name, *(values[name] for values in levels.values())] for name in NAMES]
    return tabulate(rows, headers=["", *levels], floatfmt=".3f")
