"""Writers of rendered scenes in the layouts of public data sets.

A writer is a generator function ``writer(root, split, samples)``: it takes the samples of one split one by
one, writes what its layout keeps of each below ``root``, hands each on, and after the last one writes what
describes the whole split. Writers chain, ``write_coco(root, split, write_voc(root, split, samples))``, so
that one pass, holding one image at a time, writes several layouts. A further layout is one more such function
in ``WRITERS``.
"""

import json
import xml.etree.ElementTree as ET
from dataclasses import dataclass

import numpy as np
from PIL import Image
from pycocotools import mask as rle

from .scenes import CLASSES, Scene, mask_to_box


@dataclass(frozen=True)
class Sample:
    """A rendered scene; ``masks[i]`` shows ``scene.objects[i]``, and no mask is empty."""

    number: int  # number of the image in the data set, from 0; its file name
    scene: Scene
    image: np.ndarray  # uint8 (height, width, 3), RGB
    masks: np.ndarray  # bool (objects, height, width)

    @property
    def stem(self):
        """Name of the sample's files, less the suffix."""
        return f"{self.number:06d}"


def write_voc(root, split, samples):
    """Write Pascal VOC detection files: ``JPEGImages``, ``Annotations`` and ``ImageSets/Main/<split>.txt``.

    Boxes are in VOC's convention, the 1-based numbers of their first and last column and row. ``truncated``
    marks the objects that touch the border of the image.

    Args:
        root (pathlib.Path): existing folder of the data set.
        split (str): name of the split.
        samples: iterable of :class:`Sample`.

    Yields:
        Sample: each of ``samples``, once its files are written.
    """
    image_sets, annotations = root / "ImageSets" / "Main", root / "Annotations"
    image_sets.mkdir(parents=True, exist_ok=True)
    annotations.mkdir(exist_ok=True)
    stems = []
    for sample in samples:
        _write_jpeg(root, sample)
        tree = ET.ElementTree(_voc_annotation(sample))
        ET.indent(tree)
        tree.write(annotations / f"{sample.stem}.xml")
        stems.append(sample.stem)
        yield sample
    (image_sets / f"{split}.txt").write_text("".join(f"{stem}\n" for stem in stems))


def write_coco(root, split, samples):
    """Write COCO instance files: ``JPEGImages``, shared with VOC, and ``annotations/<split>.json``.

    The id of an image is its number, the id of a category its index in ``CLASSES`` plus one. Segmentations
    are run-length encoded. Arguments and yields are those of :func:`write_voc`.
    """
    (root / "annotations").mkdir(exist_ok=True)
    images, annotations = [], []
    for sample in samples:
        _write_jpeg(root, sample)
        size = dict(zip(("height", "width"), sample.image.shape, strict=False))
        images.append({"id": sample.number, "file_name": f"{sample.stem}.jpg", **size})
        for obj, mask in zip(sample.scene.objects, sample.masks, strict=True):
            x0, y0, x1, y1 = mask_to_box(mask)
            runs = rle.encode(np.asfortranarray(mask, dtype=np.uint8))
            annotation = {
                "id": len(annotations) + 1,  # COCO's evaluation takes 0 for "no match".
                "image_id": sample.number,
                "category_id": obj.category + 1,
                "bbox": [float(x0), float(y0), float(x1 - x0), float(y1 - y0)],
                "area": int(mask.sum()),
                "iscrowd": 0,
                "segmentation": {"size": runs["size"], "counts": runs["counts"].decode("ascii")},
            }
            annotations.append(annotation)
        yield sample
    categories = [{"id": index + 1, "name": name} for index, name in enumerate(CLASSES)]
    content = {"images": images, "categories": categories, "annotations": annotations}
    (root / "annotations" / f"{split}.json").write_text(json.dumps(content))


WRITERS = {"voc": write_voc, "coco": write_coco}  # By name of the layout.


def _write_jpeg(root, sample):
    """Write the image to ``JPEGImages`` unless another layout has."""
    path = root / "JPEGImages" / f"{sample.stem}.jpg"
    if not path.exists():
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(sample.image).save(path, quality=95)


def _voc_annotation(sample):
    height, width = sample.image.shape[:2]
    root = ET.Element("annotation")
    _add_fields(root, folder="JPEGImages", filename=f"{sample.stem}.jpg")
    _add_fields(ET.SubElement(root, "size"), width=width, height=height, depth=3)
    _add_fields(root, segmented=0)
    for obj, mask in zip(sample.scene.objects, sample.masks, strict=True):
        x0, y0, x1, y1 = mask_to_box(mask)
        truncated = int(x0 == 0 or y0 == 0 or x1 == width or y1 == height)
        element = ET.SubElement(root, "object")
        _add_fields(element, name=CLASSES[obj.category], pose="Unspecified", truncated=truncated, difficult=0)
        _add_fields(ET.SubElement(element, "bndbox"), xmin=x0 + 1, ymin=y0 + 1, xmax=x1, ymax=y1)
    return root


def _add_fields(element, **fields):
    for name, value in fields.items():
        ET.SubElement(element, name).text = str(value)
