"""Build the loaders of the downstream tasks, with the mapper of each task."""

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog, print_instances_class_histogram
from detectron2.data.build import (
    filter_images_with_few_keypoints,
    filter_images_with_only_crowd_annotations,
    trivial_batch_collator,
)
from detectron2.data.common import MapDataset
from detectron2.data.samplers import (
    InferenceSampler,
    RandomSubsetTrainingSampler,
    RepeatFactorTrainingSampler,
    TrainingSampler,
)
from detectron2.utils import comm
from torch.utils.data import DataLoader, Sampler

from ...utils.errors import UnreadableImage, UsageError
from ...utils.retry import Patience
from ..datasets.catalog import load_dicts
from ..io.file_list import to_shared_list
from ..io.same_data import check_same_data
from ..io.workers import build_loader
from ..pretrain.samples import load_images, read_images
from .classification_mapper import ClassificationMapper
from .detection_mapper import DetectionMapper
from .same_size import group_by_size, resized_sizes
from .semseg_mapper import SemSegMapper
from .tasks import CATEGORIES, TASKS, check_labels, check_masks, check_same_classes
from .train_stream import StreamBatchSampler, StreamDataset, StreamLoader

logger = logging.getLogger(__name__)

CLASSIFIERS = [name for name, (labels, _) in TASKS.items() if labels is CATEGORIES]
# meta-architecture -> mapper; all other meta-architectures use the DetectionMapper
MAPPERS: dict[str, Callable[..., Any]] = {
    "SemanticSegmentor": SemSegMapper,
    **dict.fromkeys(CLASSIFIERS, ClassificationMapper),
}


def build_train_loader(cfg: CfgNode) -> StreamLoader:
    """Build the endless loader of DATASETS.TRAIN for a downstream task.

    A batch has ``SOLVER.IMS_PER_BATCH`` images over all processes. Images, order and augmentation are drawn as in
    detectron2, but depend only on SEED and the iteration.
    """
    if cfg.MODEL.META_ARCHITECTURE in CLASSIFIERS:
        # Use the cache: the length of a run in epochs has already listed ImageNet's files.
        images = load_images(tuple(cfg.DATASETS.TRAIN))
        check_labels(cfg, _place_of_training(cfg), images)
    else:
        images = _load_train_dicts(cfg)
    check_same_data(images)
    mapper = _build_mapper(cfg, is_train=True)
    sampler = StreamBatchSampler(
        build_sampler(cfg, images),
        orientations(images) if cfg.DATALOADER.ASPECT_RATIO_GROUPING else bytes(len(images)),
        cfg.SOLVER.IMS_PER_BATCH,
        comm.get_rank(),
        comm.get_world_size(),
    )
    dataset = StreamDataset(to_shared_list(images), mapper, cfg.SEED, cfg.DATALOADER.RETRY_SECONDS)
    workers = cfg.DATALOADER.NUM_WORKERS, cfg.DATALOADER.MAX_IMAGE_PIXELS, cfg.MODEL.DEVICE
    return StreamLoader(build_loader(dataset, trivial_batch_collator, *workers, batch_sampler=sampler))


def build_test_loader(cfg: CfgNode, dataset_name: str, skip_unreadable: bool = False) -> DataLoader:
    """Build the loader of one pass over ``dataset_name`` for testing; the processes share the images.

    A batch has at most ``SOLVER.IMS_PER_BATCH`` images over all processes, all of one size. Large images come alone, as
    in detectron2; see :mod:`.same_size`. Images come in the order of their batches.

    An unreadable image ends the test, as in detectron2, or with ``skip_unreadable`` leaves its batch, with a warning.
    """
    images = load_dicts(dataset_name)
    check_labels(cfg, f"Data set '{dataset_name}'", images)
    mapper, patience = _build_mapper(cfg, is_train=False), Patience(cfg.DATALOADER.RETRY_SECONDS)

    def read(image: dict[str, Any]) -> dict[str, Any]:
        try:
            return patience.read(partial(mapper, image))
        except UsageError as error:
            if not (skip_unreadable and isinstance(error.__cause__, UnreadableImage)):
                raise
            logger.warning(f"The evaluation skips an image: {error}")
            return {}

    mine = InferenceSampler(len(images))
    batch_size = max(1, cfg.SOLVER.IMS_PER_BATCH // comm.get_world_size())
    if cfg.MODEL.META_ARCHITECTURE in CLASSIFIERS:  # the mapper crops all images to the same size
        batches: dict[str, Any] = {"sampler": mine, "batch_size": batch_size}
    else:
        batches = {"batch_sampler": group_by_size(mine, resized_sizes(cfg, images), batch_size)}
    return build_loader(
        MapDataset(to_shared_list(images), read),
        _without_empty if skip_unreadable else trivial_batch_collator,
        cfg.DATALOADER.NUM_WORKERS,
        cfg.DATALOADER.MAX_IMAGE_PIXELS,
        cfg.MODEL.DEVICE,
        **batches,
    )


def _without_empty(batch: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [image for image in batch if image]


def build_sampler(cfg: CfgNode, images: Sequence[dict[str, Any]]) -> Sampler:
    """Build detectron2's sampler named by DATALOADER.SAMPLER_TRAIN, seeded with SEED.

    Args:
        cfg: config of a downstream task.
        images: detectron2 dataset dicts.

    Raises:
        UsageError: if the sampler cannot sample the images.
    """
    keys = cfg.DATALOADER
    if keys.SAMPLER_TRAIN == "TrainingSampler":
        return TrainingSampler(len(images), seed=cfg.SEED)
    if keys.SAMPLER_TRAIN == "RandomSubsetTrainingSampler":
        ratio = keys.RANDOM_SUBSET_RATIO
        if int(len(images) * ratio) < 1:
            raise UsageError(
                f"DATALOADER.RANDOM_SUBSET_RATIO is {ratio}; it must leave at least one of the {len(images)} images."
            )
        return RandomSubsetTrainingSampler(len(images), ratio, seed_shuffle=cfg.SEED, seed_subset=cfg.SEED)
    if not all("annotations" in image for image in images):
        raise UsageError(
            "DATALOADER.SAMPLER_TRAIN RepeatFactorTrainingSampler goes by the classes of annotated objects, which "
            "DATASETS.TRAIN does not have: use TrainingSampler."
        )
    root = {"sqrt": keys.REPEAT_SQRT} if "REPEAT_SQRT" in keys else {}  # a key of detectron2 after v0.6
    factors = RepeatFactorTrainingSampler.repeat_factors_from_category_frequency(images, keys.REPEAT_THRESHOLD, **root)
    return RepeatFactorTrainingSampler(factors, seed=cfg.SEED)


def orientations(images: Sequence[dict[str, Any]]) -> bytes:
    """Return whether each image is wider than high, as bytes of 0 or 1; all 0 if a dict lacks the size of its image.

    Args:
        images: detectron2 dataset dicts.
    """
    if not all("width" in image and "height" in image for image in images):
        return bytes(len(images))
    return bytes(image["width"] > image["height"] for image in images)


def _build_mapper(cfg: CfgNode, is_train: bool) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return MAPPERS.get(cfg.MODEL.META_ARCHITECTURE, DetectionMapper)(cfg, is_train)


def _place_of_training(cfg: CfgNode) -> str:
    return f"DATASETS.TRAIN {tuple(cfg.DATASETS.TRAIN)}"


def _load_train_dicts(cfg: CfgNode) -> Sequence[dict[str, Any]]:
    """Load and check the dicts of DATASETS.TRAIN, without the images that detectron2 skips."""
    names, place = tuple(cfg.DATASETS.TRAIN), _place_of_training(cfg)
    images = read_images(names)
    check_labels(cfg, place, images)
    check_masks(cfg, place, images)
    if cfg.MODEL.META_ARCHITECTURE in TASKS:
        check_same_classes(TASKS[cfg.MODEL.META_ARCHITECTURE][0], names)
    if "annotations" not in images[0]:
        return images
    crowds = sum(bool(x.get("iscrowd")) for image in images for x in image["annotations"])
    if cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS:
        images = filter_images_with_only_crowd_annotations(images)
    if cfg.MODEL.KEYPOINT_ON:
        images = filter_images_with_few_keypoints(images, cfg.MODEL.ROI_KEYPOINT_HEAD.MIN_KEYPOINTS_PER_IMAGE)
    if not images:
        advice = f" apart from {crowds} crowds, which training skips: set iscrowd 0, or" if crowds else ";"
        raise UsageError(f"Cannot train on {place}: no image has an annotated object{advice} name other data sets.")
    _log_classes(place, names[0], images)
    return images


def _log_classes(place: str, name: str, images: Sequence[dict[str, Any]]) -> None:
    """Log the frequency of each class, as detectron2 does, if data set ``name`` lists its classes."""
    classes = MetadataCatalog.get(name).get("thing_classes", None)
    if classes is None:
        return
    try:
        print_instances_class_histogram(images, classes)
    except AssertionError as error:  # for categories out of range
        raise UsageError(f"Cannot train on {place}: {error}; name other data sets.") from error
