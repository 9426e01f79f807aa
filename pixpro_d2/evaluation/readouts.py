"""Measure the dense features of one pre-training model; every number by name."""

import logging
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from PIL import Image
from torch import Tensor

from ..data.datasets.catalog import ensure_registered, load_dicts
from ..data.downstream.tasks import BOXES, CATEGORIES, labels_of
from ..data.io.reader import read_image
from ..data.pretrain.collate import collate
from ..data.pretrain.photometric import to_array
from ..data.pretrain.samples import build_view_mapper
from ..modeling.pretrain.pixpro import PixPro
from ..utils.errors import UnreadableImage, UsageError
from ..utils.modules import eval_mode
from ..utils.sampling import evenly_spread
from . import dense_features
from .adapted_norms import adapted_norms
from .label_grids import NO_CLASS, majority_grid, read_classes
from .linear_probe import mean_iou, ridge_classes

logger = logging.getLogger(__name__)

Halves = tuple[list[Tensor], list[Tensor]]  # of the images with even and with odd positions

MAX_LABELLED_IMAGES = 512  # evenly spread images of a linear probe
MIN_CLASS_IMAGES = 4  # images of a class in a linear probe of image classes, if the class has as many


def readouts(
    model: PixPro, cfg: CfgNode, images: Sequence[dict[str, Any]], labelled: str | None = None, seed: int = 0
) -> dict[str, float]:
    """Measure a model, with norms adapted to the data, in a single process.

    The adapted norms make random and trained weights comparable.

    Args:
        model: not wrapped in DDP; it does not change.
        cfg: config of its pre-training.
        images: dataset dicts for views.
        labelled: labelled data set, by name or path, for the linear probe.
        seed: seed of the views.

    Returns:
        ``NAME/LEVEL`` for each number of :func:`pixpro_d2.evaluation.dense_features.measure`, and
        ``linear_probe/LEVEL`` with ``labelled``.
    """
    mapper, retry_seconds = build_view_mapper(cfg), cfg.DATALOADER.RETRY_SECONDS

    def see_views() -> None:
        for samples in dense_features.batches(mapper, images, seed, retry_seconds):
            model.compare(*model.views_and_geometry(collate(list(samples.values()))))

    with adapted_norms(model, see_views):
        levels = dense_features.measure(model, mapper, images, seed, retry_seconds)
    found = {f"{name}/{level}": values[name] for name in dense_features.NAMES for level, values in levels.items()}
    if labelled:
        probed = linear_probe(model, labelled, cfg.INPUT.PIXPRO.CROP_SIZE, tuple(cfg.INPUT.PIXEL_RANGE))
        found |= {f"linear_probe/{level}": value for level, value in probed.items()}
    return found


@torch.no_grad()
def linear_probe(model: PixPro, name: str, size: int, pixel_range: tuple[float, ...]) -> dict[str, float]:
    """Return by level the score of a ridge regression from the backbone's features to the labels of a data set.

    The score is NaN if no image of the fit or of the test has a label; a warning says so.

    The regression is fitted on the images with even positions and tested on the other images. If there are more than
    MAX_LABELLED_IMAGES images, every n-th image is used. With image classes, the positions are in a class, and
    :func:`_some_of_each_class` chooses the images. Images are resized to ``size`` x ``size``. The norms are adapted to
    the images meanwhile.

    Args:
        model: not wrapped in DDP; it does not change.
        name: data set with label maps or boxes, for mean IoU of the grid's pixels over the classes in the test
            half, or with image classes, for the share of correct images.
        size: a multiple of the backbone's divisor.
        pixel_range: as in :func:`pixpro_d2.data.io.reader.read_image`.

    Raises:
        UsageError: for a data set without labels, with fewer than two readable images, or with unknown classes.
    """
    pixels, labelled, count, dense = _read_labelled(name, size, model.image_format, pixel_range)
    vectors, labels = _gather(model, name, pixels, labelled, count, dense)
    bare = [level for level, halves in labels.items() if not all(sum(map(len, half)) for half in halves)]
    if bare:
        logger.warning(
            f"linear_probe is NaN at {', '.join(bare)}, because no image of the fit or no image of the test has a "
            f"label: label more images of data set '{name}'."
        )
    return {
        level: float("nan") if level in bare else _score(vectors[level], labels[level], count, dense)
        for level in vectors
    }


def _gather(
    model: PixPro,
    name: str,
    pixels: Sequence[np.ndarray],
    labelled: Sequence[tuple[dict[str, Any], tuple[int, int]]],
    count: int,
    dense: bool,
) -> tuple[dict[str, Halves], dict[str, Halves]]:
    """Return the vectors of all images and their labels by level; see :func:`_read_labelled` for the arguments."""
    parts = [[pixels[i] for i in part] for part in dense_features.batch_indices(len(pixels))]

    def features() -> Iterator[dict[str, Tensor]]:
        for part in parts:
            outputs = model.inference([{"image": torch.as_tensor(image)} for image in part])
            yield {level: torch.stack([x[level] for x in outputs]).float() for level in model.in_features}

    vectors: dict[str, Halves] = {level: ([], []) for level in model.in_features}
    labels: dict[str, Halves] = {level: ([], []) for level in model.in_features}
    with adapted_norms(model, lambda: [None for _ in features()]), eval_mode(model):
        i = 0
        positions: Counter[int | None] = Counter()  # of the next image, by class if images have classes
        for batch in features():
            for k in range(len(next(iter(batch.values())))):
                target: Any = read_classes(*labelled[i]) if dense else labelled[i][0]["category_id"]
                group = None if dense else target
                for level, maps in batch.items():
                    x, y = _image_vectors(maps[k], target, dense)
                    if len(y) and y.max() >= count:
                        raise UsageError(
                            f"The labels of {labelled[i][0]['file_name']} have the class {int(y.max())}, but data set "
                            f"'{name}' has {count} classes: correct the labels, or name all classes."
                        )
                    vectors[level][positions[group] % 2].append(x)
                    labels[level][positions[group] % 2].append(y)
                positions[group] += 1
                i += 1
    return vectors, labels


def _read_labelled(
    name: str, size: int, image_format: str, pixel_range: tuple[float, ...]
) -> tuple[list[np.ndarray], list[tuple[dict[str, Any], tuple[int, int]]], int, bool]:
    """Return pixels (C, size, size), (dataset dict, original size) of each image, and :func:`_class_count`."""
    ensure_registered((name,))
    dicts = [image for image in load_dicts(name) if labels_of(image)]
    if dicts and labels_of(dicts[0]) is CATEGORIES:
        dicts = _some_of_each_class(dicts)
    else:
        dicts = dicts[:: max(1, -(-len(dicts) // MAX_LABELLED_IMAGES))]
    pixels, labelled = [], []
    for image in dicts:
        try:
            picture = read_image(image["file_name"], pixel_range)
        except UnreadableImage as error:
            logger.warning(f"The linear probe skips an image: {error}.")
            continue
        labelled.append((image, picture.size))
        pixels.append(to_array(picture.resize((size, size), Image.Resampling.BILINEAR), image_format))
    if len(pixels) < 2:
        raise UsageError(f"Data set '{name}' has {len(pixels)} labelled images to read, but a probe needs two or more.")
    return pixels, labelled, *_class_count(name, dicts[0])


def _some_of_each_class(dicts: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return at most MAX_LABELLED_IMAGES images with classes, as many of each class, evenly spread.

    If there are too many classes for MIN_CLASS_IMAGES of each, return images of evenly spread classes.
    """
    by_class: defaultdict[int, list[dict[str, Any]]] = defaultdict(list)
    for image in dicts:
        by_class[image["category_id"]].append(image)
    numbers = evenly_spread(sorted(by_class), min(MAX_LABELLED_IMAGES // MIN_CLASS_IMAGES, len(by_class)))
    most = MAX_LABELLED_IMAGES // len(numbers)
    chosen = (evenly_spread(by_class[number], min(most, len(by_class[number]))) for number in numbers)
    return [image for images in chosen for image in images]


def _class_count(name: str, image: dict[str, Any]) -> tuple[int, bool]:
    """Return the number of classes of a data set, with background beside boxes, and whether pixels have classes."""
    labels: Any = labels_of(image)
    count = len(MetadataCatalog.get(name).get(labels.classes))
    return count + (labels is BOXES), labels is not CATEGORIES


def _image_vectors(feature: Tensor, target: Any, dense: bool) -> tuple[Tensor, Tensor]:
    """Return vectors (M, C) and labels (M,) of an image's feature (C, h, w).

    If ``dense``, the vectors are the image's labelled pixels, by the classes (height, width) ``target``. Otherwise the
    only vector is the mean, and ``target`` is the image's class.
    """
    if not dense:
        return feature.mean(dim=(1, 2))[None], torch.tensor([target], device=feature.device)
    grid = majority_grid(target, tuple(np.minimum(feature.shape[1:], target.shape)))
    if grid.shape != feature.shape[1:]:  # an image with fewer pixels than the feature
        rows, columns = (np.arange(n) * m // n for n, m in zip(feature.shape[1:], grid.shape))
        grid = grid[rows][:, columns]
    classes = torch.as_tensor(grid.ravel(), device=feature.device)
    known = classes != NO_CLASS
    return feature.flatten(1).T[known], classes[known]


def _score(vectors: Halves, labels: Halves, num_classes: int, dense: bool) -> float:
    """Return the score of a level; NaN if a vector is not finite."""
    (fitted, tested), (known, truth) = (tuple(torch.cat(half) for half in halves) for halves in (vectors, labels))
    if not (fitted.isfinite().all() and tested.isfinite().all()):
        return float("nan")
    predicted = ridge_classes((fitted, tested), known, num_classes)
    return mean_iou(predicted, truth, num_classes) if dense else (predicted == truth).double().mean().item()
