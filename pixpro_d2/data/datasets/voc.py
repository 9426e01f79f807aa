"""``voc:DIR@SPLIT``: object boxes of any classes in Pascal VOC layout."""

import functools
import math
import os
import xml.etree.ElementTree as ElementTree
from typing import Any, NamedTuple

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode

from ...utils.errors import UsageError
from ...utils.folders import is_hidden
from .images import EXTENSIONS
from .paths import check_split, read_image_ids, splits_in


class VOCObject(NamedTuple):
    """Hold an annotated object: its class, its box [x0, y0, x1, y1] in continuous pixels, and whether it is difficult.

    VOC counts pixels from 1, inclusively. The continuous coordinates are those of detectron2's own VOC loader.
    """

    name: str
    box: list[float]
    difficult: bool


def read_annotation(path: str) -> tuple[int, int, list[VOCObject]]:
    """Parse a VOC XML file; return the width and height of the image in pixels, and its objects.

    Spaces around a class name are ignored. An object without ``difficult`` is not difficult.

    Raises:
        UsageError: if the file is not usable; the message names the file and the reason.
    """
    try:
        root = ElementTree.parse(path).getroot()
        width, height = (int(float(_text(root, "size", side))) for side in ("width", "height"))
        objects = [_read_object(node) for node in root.iter("object")]
    except (OSError, ElementTree.ParseError, ValueError, OverflowError) as error:
        raise UsageError(f"{path} is not a usable Pascal VOC annotation: {error}.") from error
    return width, height, objects


def _read_object(node: ElementTree.Element) -> VOCObject:
    x0, y0, x1, y1 = (float(_text(node, "bndbox", corner)) for corner in ("xmin", "ymin", "xmax", "ymax"))
    if not all(map(math.isfinite, (x0, y0, x1, y1))):
        raise ValueError("an object's box is not finite")
    return VOCObject(_text(node, "name"), [x0 - 1, y0 - 1, x1, y1], _is_set(node.findtext("difficult", "0")))


def _text(node: ElementTree.Element, *tags: str) -> str:
    text = node.findtext("/".join(tags), "").strip()
    if not text:
        raise ValueError(f"<{node.tag}> has no {''.join(f'<{tag}>' for tag in tags)}")
    return text


def _is_set(text: str) -> bool:
    """Return whether a flag is set: a number other than 0, or the word true."""
    try:
        return float(text) != 0
    except ValueError:
        return text.strip().lower() == "true"


@functools.lru_cache(maxsize=4)
def class_names(root: str) -> list[str]:
    """Return the sorted classes of all annotations below ``root``, so that every split has the same classes."""
    folder = os.path.join(root, "Annotations")
    if not os.path.isdir(folder):
        raise UsageError(f"There is no folder {os.path.abspath(folder)}.")
    names: set[str] = set()
    for parent, _, files in os.walk(folder):  # the name of an image may contain a sub-folder
        for file in files:
            if file.endswith(".xml") and not is_hidden(file):
                names.update(found.name for found in read_annotation(os.path.join(parent, file))[2])
    if not names:
        raise UsageError(f"No annotated object in {folder}.")
    return sorted(names)


def image_ids(root: str, split: str) -> list[str]:
    """Return the names of the images in ``ImageSets/Main/split.txt``; see :func:`read_image_ids`."""
    path = os.path.join(root, "ImageSets", "Main", f"{split}.txt")
    return read_image_ids(path, lambda image_id: os.path.isfile(annotation_file(root, image_id)))


def annotation_file(root: str, image_id: str) -> str:
    """Return the path of the XML file of an image."""
    return os.path.join(root, "Annotations", f"{image_id}.xml")


def load_voc(root: str, split: str) -> list[dict[str, Any]]:
    """Load the dataset dicts of ``ImageSets/Main/split.txt`` in ``root``, with Annotations/ and JPEGImages/."""
    names = image_ids(root, split)
    classes = class_names(root)
    dicts = []
    for image_id in names:
        width, height, objects = read_annotation(annotation_file(root, image_id))
        dicts.append(
            {
                "file_name": image_file(root, image_id),
                "image_id": image_id,
                "width": width,
                "height": height,
                "annotations": [
                    {"category_id": classes.index(found.name), "bbox": found.box, "bbox_mode": BoxMode.XYXY_ABS}
                    for found in objects
                ],
            }
        )
    return dicts


def image_file(root: str, image_id: str) -> str:
    """Return the path of an image in ``JPEGImages`` with any extension; raise a UsageError if there is none."""
    for extension in EXTENSIONS:
        for suffix in (extension, extension.upper()):
            path = os.path.join(root, "JPEGImages", image_id + suffix)
            if os.path.isfile(path):
                return path
    raise UsageError(f"There is no image for {image_id} in {os.path.join(root, 'JPEGImages')}.")


def register_voc(name: str, root: str, split: str) -> None:
    """Register a VOC folder and split as data set ``name``, for training and for the VOC evaluator.

    The ``year`` chooses the metric: AP of eleven points for a folder VOC2007, the area under the curve for others.
    """
    folder = os.path.join(root, "ImageSets", "Main")
    check_split(name, os.path.join(folder, f"{split}.txt"), splits_in(folder, ".txt"))
    classes = class_names(root)  # first, so that a data set with broken annotations is not registered
    DatasetCatalog.register(name, lambda: load_voc(root, split))
    MetadataCatalog.get(name).set(
        thing_classes=classes,
        dirname=root,
        split=split,
        year=2007 if os.path.basename(os.path.abspath(root)) == "VOC2007" else 2012,
        evaluator_type="pascal_voc",
    )
