"""``imagenet_train`` and ``imagenet_val`` below ``$DETECTRON2_DATASETS/imagenet``."""

import logging
import os
from collections.abc import Iterator
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog

from ...utils.archives import join_member
from ...utils.errors import UsageError
from .class_folders import load_class_folders

logger = logging.getLogger(__name__)


def load_imagenet(root: str, split: str) -> tuple[list[dict[str, Any]], list[str]]:
    """Load the dataset dicts of a split, with ``category_id``, and the names of the classes.

    The files are either ``root/split/<wnid>/*.JPEG``, with classes numbered in the order of the sorted folder names,
    or ``root/split.zip`` with ``root/split_map.txt``. Each line of the map has a path in the archive, a tab and a class
    number; the names of the classes then are their numbers.

    Raises:
        UsageError: if both are missing, or the map is malformed.
    """
    folder = os.path.join(root, split)
    archive, map_file = f"{folder}.zip", f"{folder}_map.txt"
    if os.path.isdir(folder):
        return load_class_folders(folder)
    if os.path.isfile(archive) and os.path.isfile(map_file):
        dicts: list[dict[str, Any]] = [
            {"file_name": join_member(archive, member), "image_id": i, "category_id": label}
            for i, (member, label) in enumerate(_read_map(map_file))
        ]
        return dicts, [str(i) for i in range(1 + max((x["category_id"] for x in dicts), default=-1))]
    raise UsageError(
        f"ImageNet is not in {os.path.abspath(root)}: put {split}/<wnid>/*.JPEG or {split}.zip with "
        f"{split}_map.txt there, or set DETECTRON2_DATASETS to the folder that holds imagenet/."
    )


def _read_map(map_file: str) -> Iterator[tuple[str, int]]:
    with open(map_file, encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            member, tab, label = line.rstrip("\n").partition("\t")
            if not tab or not label.isdigit():
                raise UsageError(f"{map_file}, line {number}: expected a path, a tab and a class number.")
            yield member, int(label)


def register_imagenet(root: str) -> None:
    """Register both splits, unless the project has data sets of these names; ``root`` holds ``imagenet/``."""
    for split in ("train", "val"):
        name = f"imagenet_{split}"
        if name in DatasetCatalog:
            logger.info(f"The data set {name} stays as the project has registered it.")
            continue
        DatasetCatalog.register(name, lambda name=name, split=split: _load(name, os.path.join(root, "imagenet"), split))
        MetadataCatalog.get(name).set(evaluator_type="classification")


def _load(name: str, root: str, split: str) -> list[dict[str, Any]]:
    dicts, classes = load_imagenet(root, split)
    # The classes are known only now, because no file is read before the data set is used.
    numbers = classes == [str(i) for i in range(len(classes))]
    MetadataCatalog.get(name).set(classes=classes, classes_are_numbers=numbers)
    return dicts
