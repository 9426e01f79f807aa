"""How good dense features are, without labels: a pre-training model on pairs of views of images."""

import logging

import numpy as np
import torch
from detectron2.utils import comm
from tabulate import tabulate

from ..data.io.reader import UnreadableImage
from ..data.pretrain.collate import collate_videos
from ..modeling.pretrain.monitors import effective_rank, feature_std, matches, pair_counts, uniformity
from ..modeling.pretrain.unit import unit
from ..utils.modules import eval_mode
from .linear_probe import ridge_r2

logger = logging.getLogger(__name__)

BATCH = 32
PIXELS = 64  # of an image that the regression to the height takes
VECTORS = 4096  # that effective rank and uniformity, which compare all with all, are taken of
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
def measure(model, mapper, images, seed=0):
    """Compare two views of each image, always the same, with the running statistics of the model's norms.

    All processes must call it with the same images; those that one of them cannot read are left out.

    Args:
        model (PixPro): not wrapped in DDP; it stays as it is.
        mapper (TwoViewMapper): or VideoMapper.
        images (list[dict]): dataset dicts.
        seed (int): of the views.

    Returns:
        dict[str, dict[str, float]]: for each feature of the model

        * loss: both directions, times MODEL.PIXPRO.PIXEL_WEIGHT;
        * match_accuracy, match_accuracy_projected: of the backbone's (or dense head's) features and the projector's,
          both of the online branch, in [0, 1]; see :func:`pixpro_d2.modeling.pretrain.monitors.match_accuracy`;
        * chance: what a random choice of pixel would score;
        * effective_rank, uniformity: of the features of pixels of the first views; see the functions of
          :mod:`pixpro_d2.modeling.pretrain.monitors`;
        * effective_rank_projected: of the projections of the same pixels;
        * height_r2: R2 of a ridge regression from the features of a pixel of the first views to its height in the view,
          fitted on every other image, tested on the others; NaN for a single image;
        * feature_std, feature_std_projected: of the same; see :func:`pixpro_d2.modeling.pretrain.monitors.feature_std`;
        * healthy_std, healthy_std_projected: 1 / sqrt(C), the scale of the two;
        * positive_pairs: per image;
        * images_without_pair: share of the images.

    Raises:
        UnreadableImage: if no image can be read.
    """
    sums, vectors, projected, heights, count = {}, {}, {}, {}, 0
    with eval_mode(model):
        for samples in batches(mapper, images, seed):
            losses, comparisons = model.compare(*model.prepare(collate_videos(samples)))
            for level, x in comparisons.items():
                loss = losses[f"loss_pix_{level}"] * len(model.in_features)
                _add_batch(sums.setdefault(level, {}), x, model.projector[level](x.views[1].features), loss)
                pixels = max(1, VECTORS // len(images))
                vectors.setdefault(level, []).append(_unit_vectors(x.views[0].features, pixels))
                projected.setdefault(level, []).append(_unit_vectors(x.projection, pixels))
                _add_heights(heights.setdefault(level, ([], [])), x.views[0].features, count)
            count += len(samples)
    return {
        level: _result(total, count, vectors[level], projected[level], heights[level]) for level, total in sums.items()
    }


def batches(mapper, images, seed):
    """Batches (lists) of samples of the images that all processes can read."""
    found = False
    for start in range(0, len(images), BATCH):
        samples, error = {}, None
        for i, image in enumerate(images[start : start + BATCH], start):
            try:
                samples[i] = mapper(image, np.random.default_rng((seed, i)))
            except UnreadableImage as unreadable:
                error = unreadable
                logger.warning(f"Left out of the evaluation: {error}.")
        readable = set.intersection(*map(set, comm.all_gather(list(samples))))
        if readable:
            found = True
            yield [samples[i] for i in sorted(readable)]
    if not found:
        raise error or UnreadableImage("no image can be read in all processes")


def _add_batch(total, x, projection, loss):
    """Add a level's batch to its sums over images or pixels; ``projection`` is the online one of the second view."""
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


def _some_pixels(features, count):
    """Vectors (N, M, C) of at most ``count`` pixels, evenly spread, of (N, C, H, W), and the pixels' indices (M,)."""
    pixels = features.flatten(2)
    length = pixels.shape[2]
    index = torch.linspace(0, length - 1, min(count, length), device=pixels.device).long()
    return pixels[:, :, index].transpose(1, 2), index


def _unit_vectors(features, count):
    """Unit vectors (M, C) of at most ``count`` pixels of each image."""
    vectors, _ = _some_pixels(unit(features), count)
    return vectors.flatten(0, 1)


def _add_heights(halves, features, start):
    """Add pixels' vectors and heights in [0, 1] to the halves of even and odd images; ``start`` images came before."""
    height, width = features.shape[2:]
    vectors, index = _some_pixels(features.float(), PIXELS)
    rows = (index // width + 0.5) / height
    for number, image in enumerate(vectors, start):
        halves[number % 2].append((image, rows))


def _height_r2(halves):
    if not all(halves):
        return float("nan")
    vectors, rows = zip(*((torch.cat(v), torch.cat(r)) for v, r in (zip(*half) for half in halves)))
    if not all(part.isfinite().all() for part in vectors):
        return float("nan")
    return ridge_r2(vectors, rows)


def _thinned(parts):
    """At most VECTORS, evenly spread, of the joined parts."""
    vectors = torch.cat(parts)
    return vectors[:: -(-len(vectors) // VECTORS)]


def _result(total, images, vectors, projected, heights):
    vectors = _thinned(vectors)
    means = ("loss", "positive_pairs", "images_without_pair", "feature_std", "feature_std_projected")
    result = {name: total[name] / images for name in means}
    for name in ("", "_projected"):
        result[f"match_accuracy{name}"] = total[f"hits{name}"] / max(total[f"pixels{name}"], 1)
        result[f"healthy_std{name}"] = total[f"channels{name}"] ** -0.5
    result["chance"] = total["chance"] / max(total["pixels"], 1)
    result["effective_rank"] = effective_rank(vectors).item()
    result["effective_rank_projected"] = effective_rank(_thinned(projected)).item()
    result["height_r2"] = _height_r2(heights)
    result["uniformity"] = uniformity(vectors).item()
    return result


def table(levels):
    """What :func:`measure` gives, as text: a row for each number, a column for each feature."""
    rows = [[name, *(values[name] for values in levels.values())] for name in NAMES]
    return tabulate(rows, headers=["", *levels], floatfmt=".3f")
