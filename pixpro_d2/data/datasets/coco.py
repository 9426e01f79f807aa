"""``coco:JSON@IMAGE_DIR``: annotations in COCO's format."""

import functools
import json
import logging
import os
from collections import Counter
from collections.abc import Container
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import load_coco_json
from detectron2.data.datasets.builtin_meta import _get_builtin_metadata

from ...utils.errors import UsageError
from .object_checks import are_finite, polygons_error
from .paths import check_exists, split_where

logger = logging.getLogger(__name__)

REQUIRED_LISTS = ("images", "categories")  # a test file, such as COCO's test-dev, may lack annotations
ID_TYPES = (int, float, str)


def load_coco(name: str, json_file: str, image_root: str) -> list[dict[str, Any]]:
    """Load the dataset dicts of a COCO annotation file; set the classes in the metadata of data set ``name``.

    Raises:
        UsageError: if the file is not usable; the message names the file and the reason.
    """
    check_exists(name, json_file, "annotation file")
    _refuse_errors(json_file, coco_errors(json_file))
    for warning in coco_warnings(json_file):
        logger.warning(f"{json_file}: {warning}.")
    try:
        dicts = load_coco_json(json_file, image_root, name)
    except (ValueError, KeyError, TypeError, AttributeError, AssertionError) as error:
        message = " ".join(str(error).split())  # detectron2's messages may have several lines
        raise UsageError(_unusable(json_file, f"{type(error).__name__}: {message}")) from error
    for record in dicts:  # detectron2 takes them as they are
        record.update(width=int(record["width"]), height=int(record["height"]))
        for annotation in record["annotations"]:
            annotation["iscrowd"] = int(annotation.get("iscrowd") or 0)
    return dicts


def _unusable(json_file: str, reason: str) -> str:
    return f"{json_file} is not a usable COCO annotation file ({reason})."


def read_coco(json_file: str) -> dict[str, Any]:
    """Return the content of a COCO annotation file with annotations.

    Raises:
        UsageError: for the first error of the file, or if the file cannot be read or has no annotations.
    """
    try:
        content, errors, _ = _read(json_file)
    except OSError as error:
        raise UsageError(f"{json_file} is not a readable annotation file ({error}).") from error
    _refuse_errors(json_file, errors or ([] if "annotations" in content else ["it has no annotations"]))
    return content


def _refuse_errors(json_file: str, errors: list[str]) -> None:
    if errors:
        raise UsageError(_unusable(json_file, errors[0]))


def coco_errors(json_file: str) -> list[str]:
    """Return the errors of a COCO annotation file on which training or evaluation would fail."""
    return _problems_now(json_file)[0]


def coco_warnings(json_file: str) -> list[str]:
    """Return one sentence if a COCO annotation file has annotations that training and evaluation skip; else []."""
    return _problems_now(json_file)[1]


def _problems_now(json_file: str) -> tuple[list[str], list[str]]:
    stamp = os.stat(json_file)
    return _problems(json_file, stamp.st_mtime_ns, stamp.st_size)


@functools.lru_cache(maxsize=4)  # loading and evaluation both check the file, which may have hundreds of megabytes
def _problems(json_file: str, *stamp: int) -> tuple[list[str], list[str]]:
    """Return the errors and the warnings of a COCO annotation file."""
    return _read(json_file)[1:]


def _read(json_file: str) -> tuple[Any, list[str], list[str]]:
    """Return the content of a COCO annotation file, its errors and its warnings."""
    try:
        with open(json_file, encoding="utf-8") as file:
            content = json.load(file)
    except (ValueError, RecursionError) as error:
        if "BOM" in str(error):  # pycocotools, which reads the file for training and evaluation, refuses it too
            return None, ["it begins with a byte-order mark: save it as UTF-8 without this mark"], []
        return None, [f"{type(error).__name__}: {error}"], []
    return content, *_find_problems(content)


def _find_problems(content: Any) -> tuple[list[str], list[str]]:
    found = content if isinstance(content, dict) else {}
    missing = [key for key in REQUIRED_LISTS if not isinstance(found.get(key), list) or not found[key]]
    annotations = found.get("annotations", [])
    missing += [] if isinstance(annotations, list) else ["list of annotations"]
    if missing:
        return [f"it has no {', no '.join(missing)}"], []
    known = {key: Counter(_ids(found[key])) for key in REQUIRED_LISTS}
    errors = [f"{key} has the id {i} twice" for key, ids in known.items() for i in ids if ids[i] > 1]
    errors += [
        f"{_named('category', entry)} has the name {entry.get('name')!r}, which is no text"
        for entry in found["categories"]
        if isinstance(entry, dict) and not isinstance(entry.get("name"), str)
    ]
    errors += [f"{_named('image', image)} {reason}" for image in found["images"] if (reason := _image_error(image))]
    skipped, of_text = 0, {str(i): i for i in known["images"]}
    for annotation in annotations:
        reason = _annotation_error(annotation, known["categories"])
        image = "" if reason else annotation["image_id"]
        if not reason and not (isinstance(image, ID_TYPES) and image in known["images"]):
            skipped += str(image) not in of_text
            if str(image) in of_text:
                reason = f"has the image_id {image!r}, but images has the id {of_text[str(image)]!r}: write both alike"
        errors += [f"{_named('annotation', annotation)} {reason}"] if reason else []
    sentence = f"{skipped} annotations have an image_id that images does not list, and are skipped"
    return errors, [sentence] if skipped else []


def _ids(entries: list) -> list[int | float | str]:
    return [entry["id"] for entry in entries if isinstance(entry, dict) and isinstance(entry.get("id"), ID_TYPES)]


def _named(kind: str, entry: Any) -> str:
    if not isinstance(entry, dict):
        return f"an {kind}"
    number = f" {entry['id']}" if entry.get("id") is not None else ""
    place = f" of image {entry['image_id']}" if "image_id" in entry else ""
    return f"{kind}{number}{place}"


def _image_error(image: Any) -> str:
    if not isinstance(image, dict):
        return "is no JSON object"
    missing = [key for key in ("id", "file_name", "width", "height") if image.get(key) is None]
    if missing:
        return f"has no {missing[0]}"
    for side in ("width", "height"):
        if not isinstance(image[side], (int, float)) or image[side] <= 0 or image[side] % 1:
            return f"has the {side} {image[side]!r}, which is no whole number of pixels"
    return ""


def _annotation_error(annotation: Any, categories: Container) -> str:
    if not isinstance(annotation, dict):
        return "is no JSON object"
    missing = [key for key in ("id", "image_id", "category_id", "bbox") if annotation.get(key) is None]
    if missing:
        return f"has no {missing[0]}"
    box, mask, category = annotation["bbox"], annotation.get("segmentation"), annotation["category_id"]
    if not isinstance(category, (int, str)) or category not in categories:
        return f"has category_id {annotation['category_id']!r}, which categories does not list"
    if annotation.get("iscrowd") not in (None, "", 0, 1, "0", "1"):
        return f"has iscrowd {annotation['iscrowd']!r}, not 0 or 1"
    if not isinstance(box, list) or len(box) != 4 or not are_finite(box):
        return f"has the bbox {box}, not [x, y, width, height]"
    return "" if mask is None or isinstance(mask, dict) else polygons_error(mask)


def register_coco(name: str, json_file: str, image_root: str) -> None:
    """Register a COCO annotation file and its image folder as data set ``name``."""
    json_file, image_root = split_where(os.path.isfile, json_file, image_root)
    check_exists(name, json_file, "annotation file")
    check_exists(name, image_root, "image folder")
    _register(name, json_file, image_root)


def register_coco_subsets(root: str) -> None:
    """Register ``coco_2017_train_1pct`` and ``_10pct``, which pixpro_d2.tools.label_subset writes below ``root``."""
    for percent in (1, 10):
        json_file = os.path.join(root, f"coco/annotations/instances_train2017_{percent}pct.json")
        metadata = _get_builtin_metadata("coco")
        _register(f"coco_2017_train_{percent}pct", json_file, os.path.join(root, "coco/train2017"), **metadata)


def _register(name: str, json_file: str, image_root: str, **metadata: Any) -> None:
    DatasetCatalog.register(name, lambda: load_coco(name, json_file, image_root))
    MetadataCatalog.get(name).set(json_file=json_file, image_root=image_root, evaluator_type="coco", **metadata)
