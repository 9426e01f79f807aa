"""Cityscapes files of rendered scenes."""

import json

import numpy as np
from PIL import Image

from ....utils.cityscapes_alias import check_cityscapesscripts
from .sample import silhouette

# Cityscapes' names for CLASSES, all among its classes of things, and for the background.
LABELS = ("car", "truck", "person", "motorcycle", "bicycle")
BACKGROUND = "road"
CITY = "scenes"


def write_cityscapes(root, split, samples):
    """Write Cityscapes' ``leftImg8bit`` and ``gtFine``, with label files made by its own converters.

    The split ``test`` is written as ``val``: that of Cityscapes has no public labels. As its annotators do, the
    polygons count a hole in an object as a part of it. Arguments and yields are those of :func:`write_coco`.
    """
    check_cityscapesscripts()
    from cityscapesscripts.helpers.annotation import Annotation  # an extra
    from cityscapesscripts.preparation.json2instanceImg import createInstanceImage
    from cityscapesscripts.preparation.json2labelImg import json2labelImg

    split = "val" if split == "test" else split
    images, labels = (root / part / split / CITY for part in ("leftImg8bit", "gtFine"))
    images.mkdir(parents=True, exist_ok=True)
    labels.mkdir(parents=True, exist_ok=True)
    for sample in samples:
        stem = f"{CITY}_{sample.stem}_000019"  # the frame of each sequence that Cityscapes annotates
        Image.fromarray(sample.image).save(images / f"{stem}_leftImg8bit.png")
        polygons = labels / f"{stem}_gtFine_polygons.json"
        polygons.write_text(json.dumps(_annotation(sample)))
        for encoding, name in (("ids", "labelIds"), ("trainIds", "labelTrainIds")):
            json2labelImg(str(polygons), str(labels / f"{stem}_gtFine_{name}.png"), encoding)
        annotation = Annotation()
        annotation.fromJsonFile(str(polygons))
        # json2instanceImg would save 32 bits, which Pillow 13 no longer writes; the ids need 16.
        instances = createInstanceImage(annotation, "ids").convert("I;16")
        instances.save(labels / f"{stem}_gtFine_instanceIds.png")
        yield sample


def _annotation(sample):
    """Content of a polygon file: later objects lie in front of earlier ones."""
    height, width = sample.image.shape[:2]
    frame = [[0, 0], [width - 1, 0], [width - 1, height - 1], [0, height - 1]]
    objects = [{"label": BACKGROUND, "polygon": frame}]
    for obj in sample.scene.objects:
        polygon = trace_outline(silhouette(sample, obj), obj.centre).tolist()
        objects.append({"label": LABELS[obj.category], "polygon": polygon})
    return {"imgHeight": height, "imgWidth": width, "objects": objects}


def trace_outline(mask, centre):
    """Outline of an object that is seen whole from its centre, holes left aside.

    Args:
        mask (numpy.ndarray): bool (height, width), not empty.
        centre (tuple): the point (x, y) in the image; the pixel [row, column] is centred at (column + 0.5, row + 0.5).

    Returns:
        numpy.ndarray: int (points, 2), the (column, row) of the pixels where rays from the centre leave the mask, or
        the image if they do so before they reach the mask.
    """
    rows, columns = np.nonzero(mask)
    reach = np.hypot(columns + 0.5 - centre[0], rows + 0.5 - centre[1]).max() + 1
    angles = np.linspace(0, 2 * np.pi, int(2 * np.pi * reach), endpoint=False)[:, None]
    distances = np.arange(0, reach, 0.25)
    x = np.floor(centre[0] + distances * np.cos(angles)).astype(int)
    y = np.floor(centre[1] + distances * np.sin(angles)).astype(int)
    inside = (x >= 0) & (y >= 0) & (x < mask.shape[1]) & (y < mask.shape[0])
    hit = inside & mask[y.clip(0, mask.shape[0] - 1), x.clip(0, mask.shape[1] - 1)]
    on_ray = np.where(hit.any(axis=1, keepdims=True), hit, inside)
    last = on_ray.shape[1] - 1 - on_ray[:, ::-1].argmax(axis=1, keepdims=True)
    points = np.concatenate([np.take_along_axis(a, last, axis=1) for a in (x, y)], axis=1)
    return points[(points != np.roll(points, 1, axis=0)).any(axis=1)]
