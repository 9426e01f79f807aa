"""Write Pascal VOC files of rendered scenes, for detection and for semantic segmentation."""

import xml.etree.ElementTree as ET
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from ..scene import CLASSES, mask_to_box
from .sample import Sample, write_jpeg


def write_voc(root: Path, split: str, samples: Iterable[Sample]) -> Iterator[Sample]:
    """Write Pascal VOC files.

    Detection: ``JPEGImages``, ``Annotations`` and ``ImageSets/Main/<split>.txt``. Boxes are in VOC's convention: the
    1-based numbers of the first and last column and row. ``truncated`` marks objects that touch the border of the
    image.

    Segmentation: ``SegmentationClass``, ``ImageSets/Segmentation/<split>.txt`` and ``classes.txt``. The palette PNGs
    have 0 for the background, a category plus one for its objects, and 255 on the outlines of objects.

    See :func:`write_coco` for arguments and yields.
    """
    annotations, labels = root / "Annotations", root / "SegmentationClass"
    annotations.mkdir(exist_ok=True)
    labels.mkdir(exist_ok=True)
    stems = []
    for sample in samples:
        write_jpeg(root, sample)
        tree = ET.ElementTree(_annotation(sample))
        ET.indent(tree)
        tree.write(annotations / f"{sample.stem}.xml")
        image = Image.fromarray(_class_ids(sample), mode="P")
        image.putpalette(_palette())
        image.save(labels / f"{sample.stem}.png")
        stems.append(sample.stem)
        yield sample
    for task in ("Main", "Segmentation"):
        (root / "ImageSets" / task).mkdir(parents=True, exist_ok=True)
        (root / "ImageSets" / task / f"{split}.txt").write_text("".join(f"{stem}\n" for stem in stems))
    (root / "classes.txt").write_text("".join(f"{name}\n" for name in ("background", *CLASSES)))


def _annotation(sample: Sample) -> ET.Element:
    height, width = sample.image.shape[:2]
    root = ET.Element("annotation")
    _add_fields(root, folder="JPEGImages", filename=f"{sample.stem}.jpg")
    _add_fields(ET.SubElement(root, "size"), width=width, height=height, depth=3)
    _add_fields(root, segmented=1)
    for obj, mask in zip(sample.scene.objects, sample.masks, strict=True):
        x0, y0, x1, y1 = mask_to_box(mask)
        truncated = int(x0 == 0 or y0 == 0 or x1 == width or y1 == height)
        element = ET.SubElement(root, "object")
        _add_fields(element, name=CLASSES[obj.category], pose="Unspecified", truncated=truncated, difficult=0)
        _add_fields(ET.SubElement(element, "bndbox"), xmin=x0 + 1, ymin=y0 + 1, xmax=x1, ymax=y1)
    return root


def _add_fields(element: ET.Element, **fields: str | int) -> None:
    for name, value in fields.items():
        ET.SubElement(element, name).text = str(value)


def _class_ids(sample: Sample) -> np.ndarray:
    """Return the class ids, uint8 (height, width), with 255 on both sides of an outline, where ids are ambiguous."""
    ids = np.zeros(sample.masks.shape[1:], dtype=np.uint8)
    front = np.zeros_like(ids)
    for number, (obj, mask) in enumerate(zip(sample.scene.objects, sample.masks, strict=True), start=1):
        ids[mask], front[mask] = obj.category + 1, number
    down, right = front[1:] != front[:-1], front[:, 1:] != front[:, :-1]
    for side in (ids[1:], ids[:-1]):
        side[down] = 255
    for side in (ids[:, 1:], ids[:, :-1]):
        side[right] = 255
    return ids


def _palette() -> list[int]:
    """Return VOC's colours of the ids 0 to 255, flat: bit 3j + c of an id is bit 7 - j of colour c."""
    bits = np.arange(256)[:, None, None] >> (3 * np.arange(8)[:, None] + np.arange(3)) & 1
    return (bits << (7 - np.arange(8)[:, None])).sum(axis=1).astype(np.uint8).ravel().tolist()
