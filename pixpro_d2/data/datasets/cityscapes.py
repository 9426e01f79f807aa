"""``cityscapes:DIR@SPLIT`` and ``cityscapes_instance:DIR@SPLIT``: Cityscapes layout, in any folder.

Loaders and metadata are those of detectron2's ``cityscapes_fine_{sem_seg,instance_seg}_*``.
"""

import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from operator import itemgetter
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets.builtin_meta import _get_builtin_metadata
from detectron2.data.datasets.cityscapes import (
    _cityscapes_files_to_dict,
    _get_cityscapes_files,
    load_cityscapes_semantic,
)
from detectron2.utils import comm

from ...utils.cityscapes_alias import alias_cityscapesscripts, check_cityscapesscripts
from ...utils.errors import UsageError
from ...utils.folders import is_hidden
from ...utils.machine import usable_cores
from .paths import check_exists, check_split, splits_in

alias_cityscapesscripts("helpers.labels")

IMAGE = "_leftImg8bit.png"
LABELS = ("polygons.json", "labelIds.png", "instanceIds.png")  # files that detectron2 and the evaluation read
TRAIN_IDS = "labelTrainIds.png"  # not in the download
BUILTIN_INSTANCES = [f"cityscapes_fine_instance_seg_{split}" for split in ("train", "val", "test")]


def register_cityscapes(name: str, root: str, split: str) -> None:
    """Register semantic segmentation with Cityscapes' 19 classes as data set ``name``."""
    check_cityscapesscripts()
    image_dir, gt_dir = _folders(name, root, split)
    _check_files(name, root, image_dir, gt_dir, (*LABELS, TRAIN_IDS))
    DatasetCatalog.register(name, lambda: _by_name(load_cityscapes_semantic(image_dir, gt_dir)))
    _set_metadata(name, image_dir, gt_dir, evaluator_type="cityscapes_sem_seg", ignore_label=255)


def register_cityscapes_instance(name: str, root: str, split: str) -> None:
    """Register instance segmentation with Cityscapes' 8 classes of things as data set ``name``."""
    check_cityscapesscripts()
    image_dir, gt_dir = _folders(name, root, split)
    _check_files(name, root, image_dir, gt_dir, LABELS)
    DatasetCatalog.register(name, lambda: load_instances(image_dir, gt_dir))
    _set_metadata(name, image_dir, gt_dir, evaluator_type="cityscapes_instance")


def replace_builtin_loaders() -> None:
    """Let :func:`load_instances` load detectron2's data sets BUILTIN_INSTANCES; their folders and metadata stay."""
    for name in BUILTIN_INSTANCES:
        metadata = MetadataCatalog.get(name)
        DatasetCatalog.remove(name)
        DatasetCatalog.register(name, partial(load_instances, metadata.image_dir, metadata.gt_dir))


def load_instances(image_dir: str, gt_dir: str) -> list[dict[str, Any]]:
    """Return the dicts of detectron2's ``load_cityscapes_instances``, read by worker processes that end at once.

    detectron2 leaves its workers to the garbage collection, which ends them by SIGTERM. Workers that were forked in a
    run ignore the signal, so that the run could wait for them forever.
    """
    from cityscapesscripts.helpers.labels import labels

    files = _get_cityscapes_files(image_dir, gt_dir)
    workers = max(usable_cores() // comm.get_world_size() // 2, 4)
    with ProcessPoolExecutor(workers) as pool:
        read = partial(_cityscapes_files_to_dict, from_json=True, to_polygons=True)
        images = list(pool.map(read, files, chunksize=max(1, len(files) // (4 * workers))))
    things = [label.id for label in labels if label.hasInstances and not label.ignoreInEval]
    for image in images:
        for annotation in image["annotations"]:
            annotation["category_id"] = things.index(annotation["category_id"])
    return _by_name(images)


def _by_name(images: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Sort dicts by their file names: detectron2 lists folders in the order of the disk, which differs by machine."""
    return sorted(images, key=itemgetter("file_name"))


def _folders(name: str, root: str, split: str) -> list[str]:
    parts = [os.path.join(root, part) for part in ("leftImg8bit", "gtFine")]
    for part in parts:
        check_split(name, os.path.join(part, split), splits_in(part), "folder")
    return [os.path.join(part, split) for part in parts]


def _check_files(name: str, root: str, image_dir: str, gt_dir: str, suffixes: Sequence[str]) -> None:
    """Raise a UsageError unless every image has a name as in Cityscapes and its label files."""
    images = [(city, file) for city in sorted(os.listdir(image_dir)) for file in _files(name, image_dir, city)]
    if not images:
        raise UsageError(f"Data set '{name}': no image <city>/*{IMAGE} in {os.path.abspath(image_dir)}.")
    for city, file in images:
        if not file.endswith(IMAGE) or is_hidden(file):  # detectron2 treats every file as an image
            raise UsageError(f"{os.path.join(image_dir, city, file)} is not an image *{IMAGE}: move it elsewhere.")
        for suffix in suffixes:
            label = os.path.join(gt_dir, city, f"{file.removesuffix(IMAGE)}_gtFine_{suffix}")
            if not os.path.isfile(label):
                hint = f": run `CITYSCAPES_DATASET={os.path.abspath(root)} csCreateTrainIdLabelImgs`"
                raise UsageError(f"There is no label file {label}{hint if suffix == TRAIN_IDS else ''}.")


def _files(name: str, image_dir: str, city: str) -> list[str]:
    folder = os.path.join(image_dir, city)
    check_exists(name, folder)
    return sorted(os.listdir(folder))


def _set_metadata(name: str, image_dir: str, gt_dir: str, **further: Any) -> None:
    metadata = _get_builtin_metadata("cityscapes")
    MetadataCatalog.get(name).set(image_dir=image_dir, gt_dir=gt_dir, **metadata, **further)
