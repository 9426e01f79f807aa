"""``coco:JSON@IMAGE_DIR``: annotations in COCO's format."""

import json
import math
import os

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import load_coco_json
from detectron2.data.datasets.builtin_meta import _get_builtin_metadata

from ...errors import UsageError
from .paths import check_exists, split_where

# Lists that an annotation file of objects has.
LISTS = ("images", "annotations", "categories")


def load_coco(name, json_file, image_root):
    """Dataset dicts of a COCO annotation file; sets the classes in the metadata of data set ``name``.

    Raises:
        UsageError: naming the file and what is wrong with it.
    """
    check_exists(name, json_file, "annotation file")
    try:
        dicts = load_coco_json(json_file, image_root, name)
        for record in dicts:
            _check_values(record)
    except (ValueError, KeyError, TypeError, AttributeError, AssertionError, RecursionError) as error:
        message = " ".join(str(error).split())  # detectron2's may have several lines
        reason = _missing_lists(json_file) or f"{type(error).__name__}: {message}"
        raise UsageError(f"{json_file} is not a usable COCO annotation file ({reason}).") from error
    if not any(record["annotations"] for record in dicts):  # rare enough to parse the file once more
        reason = _missing_lists(json_file)
        if reason:
            raise UsageError(f"{json_file} is not a usable COCO annotation file ({reason}).")
    return dicts


def _check_values(record):
    """Raise a ValueError or TypeError for values that training would fail at, maybe hours later."""
    if not all(isinstance(record[side], (int, float)) and record[side] > 0 for side in ("width", "height")):
        raise ValueError(f"image {record['image_id']} is {record['width']} x {record['height']} pixels")
    for annotation in record["annotations"]:
        box, mask = annotation.get("bbox", [0] * 4), annotation.get("segmentation")
        polygons = mask if isinstance(mask, list) else []
        if len(box) != 4 or not all(math.isfinite(sum(numbers)) for numbers in (box, *polygons)):
            raise ValueError(f"image {record['image_id']} has an object without finite coordinates")


def _missing_lists(json_file):
    """What a file lacks of ``LISTS``, in words; empty if it is no JSON file or has them."""
    try:
        with open(json_file, encoding="utf-8") as file:
            content = json.load(file)
    except (ValueError, RecursionError):
        return ""
    found = content if isinstance(content, dict) else {}
    missing = [key for key in LISTS if not isinstance(found.get(key), list)]
    missing += [key for key in ("images", "categories") if found.get(key) == []]
    return f"it has no {', no '.join(missing)}" if missing else ""


def register_coco(name, json_file, image_root):
    """Register a COCO annotation file and its image folder as data set ``name``."""
    json_file, image_root = split_where(os.path.isfile, json_file, image_root)
    check_exists(name, json_file, "annotation file")
    check_exists(name, image_root, "image folder")
    _register(name, json_file, image_root)


def register_coco_subsets(root):
    """Register ``coco_2017_train_1pct`` and ``_10pct``, as pixpro_d2.tools.label_subset writes them below ``root``."""
    for percent in (1, 10):
        json_file = os.path.join(root, f"coco/annotations/instances_train2017_{percent}pct.json")
        metadata = _get_builtin_metadata("coco")
        _register(f"coco_2017_train_{percent}pct", json_file, os.path.join(root, "coco/train2017"), **metadata)


def _register(name, json_file, image_root, **metadata):
    DatasetCatalog.register(name, lambda: load_coco(name, json_file, image_root))
    MetadataCatalog.get(name).set(json_file=json_file, image_root=image_root, evaluator_type="coco", **metadata)
