"""``classes:DIR``: one sub-folder of images per class, as in ImageNet."""

import os
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog

from ...utils.errors import UsageError
from ...utils.folders import is_hidden
from .images import list_images
from .paths import check_exists

SPLITS = {"train", "training", "val", "valid", "validation", "test", "testing"}


def folder_classes(root: str) -> list[str]:
    """Return the classes: the sorted names of the sub-folders. A folder without images counts, so that splits agree.

    Raises:
        UsageError: if there is no sub-folder.
    """
    names = sorted(entry.name for entry in os.scandir(root) if entry.is_dir() and not is_hidden(entry.name))
    if not names:
        raise UsageError(f"{os.path.abspath(root)} has no sub-folders, one for each class.")
    if {name.lower() for name in names} <= SPLITS and all(_has_folders(os.path.join(root, name)) for name in names):
        raise UsageError(
            f"The sub-folders of {os.path.abspath(root)} are the splits {', '.join(names)}, not classes: name one of "
            f"them, as classes:{os.path.join(root, names[0])}."
        )
    return names


def _has_folders(path: str) -> bool:
    return any(entry.is_dir() and not is_hidden(entry.name) for entry in os.scandir(path))


def load_class_folders(root: str) -> tuple[list[dict[str, Any]], list[str]]:
    """Load the dataset dicts of all images in the sub-folders, with the ``category_id`` of their class.

    Returns:
        The dicts and the names of the classes.
    """
    classes = folder_classes(root)
    number = {name: i for i, name in enumerate(classes)}
    dicts: list[dict[str, Any]] = []
    for path in list_images(root):
        category = number.get(os.path.relpath(path, root).split(os.sep)[0])
        if category is not None:  # an image beside the sub-folders has no class
            dicts.append({"file_name": path, "image_id": len(dicts), "category_id": category})
    return dicts, classes


def register_classes(name: str, root: str) -> None:
    """Register the folder ``root`` as data set ``name``."""
    check_exists(name, root)
    classes = folder_classes(root)
    DatasetCatalog.register(name, lambda: load_class_folders(root)[0])
    MetadataCatalog.get(name).set(classes=classes, evaluator_type="classification")
