"""Loaders of the downstream tasks: detectron2's own, with the mapper that a task needs."""

from detectron2.data import DatasetCatalog, build_detection_test_loader, build_detection_train_loader
from detectron2.data.build import trivial_batch_collator
from detectron2.data.common import DatasetFromList, MapDataset
from detectron2.data.samplers import InferenceSampler
from detectron2.utils import comm
from torch.utils.data import DataLoader

from .classification_mapper import ClassificationMapper
from .samples import load_images
from .semseg_mapper import SemSegMapper

# meta-architecture -> mapper; the others take detectron2's DatasetMapper
MAPPERS = {
    "SemanticSegmentor": SemSegMapper,
    "LinearClassifier": ClassificationMapper,
    "KNNClassifier": ClassificationMapper,
}


def build_train_loader(cfg):
    """Endless loader of DATASETS.TRAIN for a downstream task."""
    mapper = MAPPERS.get(cfg.MODEL.META_ARCHITECTURE)
    # ImageNet's files are listed once: the length of a run in epochs has needed their number already.
    dataset = load_images(tuple(cfg.DATASETS.TRAIN)) if mapper is ClassificationMapper else None
    return build_detection_train_loader(cfg, dataset=dataset, mapper=mapper and mapper(cfg, True))


def build_test_loader(cfg, dataset_name):
    """Loader of one pass over ``dataset_name``, as for testing, shared out among the processes.

    Images come one by one, as detectron2 tests, or for classification, whose images have one size, in batches
    of ``SOLVER.IMS_PER_BATCH``.
    """
    mapper = MAPPERS.get(cfg.MODEL.META_ARCHITECTURE)
    if mapper is not ClassificationMapper:
        return build_detection_test_loader(cfg, dataset_name, mapper=mapper and mapper(cfg, False))
    images = DatasetFromList(DatasetCatalog.get(dataset_name), copy=False)
    return DataLoader(  # detectron2 v0.6 has no batch size here
        MapDataset(images, mapper(cfg, False)),
        batch_size=cfg.SOLVER.IMS_PER_BATCH // comm.get_world_size(),
        sampler=InferenceSampler(len(images)),
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        collate_fn=trivial_batch_collator,
    )
