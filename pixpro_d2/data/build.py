"""Loaders of the downstream tasks, with the mapper that a task needs."""

from detectron2.data import DatasetCatalog, DatasetMapper, get_detection_dataset_dicts
from detectron2.data.build import trivial_batch_collator
from detectron2.data.common import MapDataset
from detectron2.data.samplers import (
    InferenceSampler,
    RandomSubsetTrainingSampler,
    RepeatFactorTrainingSampler,
    TrainingSampler,
)
from detectron2.utils import comm

from ..errors import UsageError
from .classification_mapper import ClassificationMapper
from .file_list import shareable
from .retry import patiently
from .samples import load_images
from .semseg_mapper import SemSegMapper
from .train_stream import StreamBatchSampler, StreamDataset, StreamLoader
from .workers import build_loader

# meta-architecture -> mapper; the others take detectron2's DatasetMapper
MAPPERS = {
    "SemanticSegmentor": SemSegMapper,
    "LinearClassifier": ClassificationMapper,
    "KNNClassifier": ClassificationMapper,
}


def build_train_loader(cfg):
    """Endless loader of DATASETS.TRAIN for a downstream task, ``SOLVER.IMS_PER_BATCH`` images over all processes.

    Images, order and augmentation are drawn as detectron2 does, but follow from SEED and the iteration alone.

    Returns:
        StreamLoader:
    """
    mapper = _build_mapper(cfg, is_train=True)
    if isinstance(mapper, ClassificationMapper):
        # ImageNet's files are listed once: the length of a run in epochs has needed their number already.
        images = load_images(tuple(cfg.DATASETS.TRAIN))
    else:
        images = _load_train_dicts(cfg)
    sampler = StreamBatchSampler(
        build_sampler(cfg, images),
        orientations(images) if cfg.DATALOADER.ASPECT_RATIO_GROUPING else bytes(len(images)),
        cfg.SOLVER.IMS_PER_BATCH,
        comm.get_rank(),
        comm.get_world_size(),
    )
    dataset = StreamDataset(shareable(images), mapper, cfg.SEED, cfg.DATALOADER.RETRY_SECONDS)
    workers = cfg.DATALOADER.NUM_WORKERS, cfg.DATALOADER.MAX_IMAGE_PIXELS
    return StreamLoader(build_loader(dataset, trivial_batch_collator, *workers, batch_sampler=sampler))


def build_test_loader(cfg, dataset_name):
    """Loader of one pass over ``dataset_name``, as for testing, shared out among the processes.

    Images come one by one, as detectron2 tests, or for classification, whose images have one size, in batches
    of ``SOLVER.IMS_PER_BATCH``.
    """
    mapper = _build_mapper(cfg, is_train=False)
    if isinstance(mapper, ClassificationMapper):
        images, batch_size = DatasetCatalog.get(dataset_name), cfg.SOLVER.IMS_PER_BATCH // comm.get_world_size()
    else:
        images, batch_size = get_detection_dataset_dicts([dataset_name], filter_empty=False), 1

    def read(image):
        return patiently(lambda: mapper(image), cfg.DATALOADER.RETRY_SECONDS)

    dataset = MapDataset(shareable(images), read)
    return build_loader(
        dataset,
        trivial_batch_collator,
        cfg.DATALOADER.NUM_WORKERS,
        cfg.DATALOADER.MAX_IMAGE_PIXELS,
        batch_size=batch_size,
        sampler=InferenceSampler(len(images)),
    )


def build_sampler(cfg, images):
    """detectron2's sampler named by DATALOADER.SAMPLER_TRAIN, seeded with SEED.

    Args:
        images (list[dict]): detectron2 dataset dicts.

    Raises:
        UsageError: for images that it cannot sample.
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


def orientations(images):
    """Whether each image is wider than high, as bytes of 0 or 1; all 0 where some dict does not tell its image's size.

    Args:
        images (list[dict]): detectron2 dataset dicts.
    """
    if not all("width" in image and "height" in image for image in images):
        return bytes(len(images))
    return bytes(image["width"] > image["height"] for image in images)


def _build_mapper(cfg, is_train):
    return MAPPERS.get(cfg.MODEL.META_ARCHITECTURE, DatasetMapper)(cfg, is_train)


def _load_train_dicts(cfg):
    names = tuple(cfg.DATASETS.TRAIN)
    try:
        return get_detection_dataset_dicts(
            names,
            filter_empty=cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS,
            min_keypoints=cfg.MODEL.ROI_KEYPOINT_HEAD.MIN_KEYPOINTS_PER_IMAGE if cfg.MODEL.KEYPOINT_ON else 0,
        )
    except AssertionError as error:  # for no data set, one without images, or categories out of range
        raise UsageError(f"DATASETS.TRAIN {names} is nothing to train on, name other data sets: {error}") from error
