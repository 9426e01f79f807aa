"""``voc:DIR@SPLIT``: object boxes in Pascal VOC layout, of any classes."""

import functools
import math
import os
import xml.etree.ElementTree as ElementTree

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode

from ...errors import UsageError
from .images import EXTENSIONS
from .paths import check_split, is_hidden, read_image_ids, splits_in


def read_annotation(path):
    """Parse one VOC XML file.

    Returns:
        tuple: (width, height, list of (class name, [x0, y0, x1, y1])); boxes in continuous pixel coordinates,
        as detectron2's own VOC loader has them (VOC counts pixels from 1, inclusively).

    Raises:
        UsageError: naming the file and what is wrong with it.
    """
    try:
        tree = ElementTree.parse(path)
        size = [int(tree.find(f"size/{side}").text) for side in ("width", "height")]
        objects = []
        for node in tree.iter("object"):
            x0, y0, x1, y1 = (float(node.find(f"bndbox/{corner}").text) for corner in ("xmin", "ymin", "xmax", "ymax"))
            name = node.find("name").text
            if not name:
                raise ValueError("an object has no name")
            if not all(map(math.isfinite, (x0, y0, x1, y1))):
                raise ValueError("an object's box is not finite")
            objects.append((name, [x0 - 1, y0 - 1, x1, y1]))
    except (OSError, ElementTree.ParseError, AttributeError, TypeError, ValueError) as error:
        raise UsageError(f"{path} is not a usable Pascal VOC annotation: {error}.") from error
    return (*size, objects)


@functools.lru_cache(maxsize=4)
def class_names(root):
    """Classes of all annotations below ``root``, sorted; of all, so that every split has the same."""
    folder = os.path.join(root, "Annotations")
    if not os.path.isdir(folder):
        raise UsageError(f"There is no folder {os.path.abspath(folder)}.")
    names = set()
    for file in os.listdir(folder):
        if file.endswith(".xml") and not is_hidden(file):
            names.update(name for name, _ in read_annotation(os.path.join(folder, file))[2])
    if not names:
        raise UsageError(f"No annotated object in {folder}.")
    return sorted(names)


def image_ids(root, split):
    """Image names in ``ImageSets/Main/split.txt``; further words of a line are left out."""
    return read_image_ids(os.path.join(root, "ImageSets", "Main", f"{split}.txt"))


def load_voc(root, split):
    """Dataset dicts of ``root`` (Annotations/, ImageSets/Main/, JPEGImages/) for ``ImageSets/Main/split.txt``."""
    names = image_ids(root, split)
    classes = class_names(root)
    dicts = []
    for image_id in names:
        width, height, objects = read_annotation(os.path.join(root, "Annotations", f"{image_id}.xml"))
        dicts.append(
            {
                "file_name": image_file(root, image_id),
                "image_id": image_id,
                "width": width,
                "height": height,
                "annotations": [
                    {"category_id": classes.index(name), "bbox": box, "bbox_mode": BoxMode.XYXY_ABS}
                    for name, box in objects
                ],
            }
        )
    return dicts


def image_file(root, image_id):
    """Path of an image in ``JPEGImages``, whatever its extension; a UsageError if there is none."""
    for extension in EXTENSIONS:
        for suffix in (extension, extension.upper()):
            path = os.path.join(root, "JPEGImages", image_id + suffix)
            if os.path.isfile(path):
                return path
    raise UsageError(f"There is no image for {image_id} in {os.path.join(root, 'JPEGImages')}.")


def register_voc(name, root, split):
    """Register a VOC folder and split as data set ``name``, for training and for detectron2's VOC evaluator."""
    folder = os.path.join(root, "ImageSets", "Main")
    check_split(name, os.path.join(folder, f"{split}.txt"), splits_in(folder, ".txt"))
    classes = class_names(root)  # first, so that a name whose annotations are broken is not registered
    DatasetCatalog.register(name, lambda: load_voc(root, split))
    MetadataCatalog.get(name).set(
        thing_classes=classes,
        dirname=root,
        split=split,
        year=2012,  # area under the curve rather than VOC 2007's eleven points
        evaluator_type="pascal_voc",
    )
