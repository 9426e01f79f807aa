"""Write Cityscapes files of rendered scenes."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ....utils.cityscapes_alias import check_cityscapesscripts
from .sample import Sample, silhouette

# Cityscapes' names for CLASSES (all are classes of things) and for the background.
LABELS = ("car", "truck", "person", "motorcycle", "bicycle")
BACKGROUND = "road"
CITY = "scenes"


def write_cityscapes(root: Path, split: str, samples: Iterable[Sample]) -> Iterator[Sample]:
    """Write Cityscapes' ``leftImg8bit`` and ``gtFine``, with label files made by its own converters.

    The split ``test`` is written as ``val``, because Cityscapes' ``test`` has no public labels. The polygons count a
    hole in an object as a part of the object, as Cityscapes' annotators do. See :func:`write_coco` for arguments and
    yields.
    """
    check_cityscapesscripts()
    from cityscapesscripts.helpers.annotation import Annotation  # optional dependency
    from cityscapesscripts.preparation.json2instanceImg import createInstanceImage
    from cityscapesscripts.preparation.json2labelImg import json2labelImg

    split = "val" if split == "test" else split
    images, labels = (root / part / split / CITY for part in ("leftImg8bit", "gtFine"))
    images.mkdir(parents=True, exist_ok=True)
    labels.mkdir(parents=True, exist_ok=True)
    for sample in samples:
        stem = f"{CITY}_{sample.stem}_000019"  # Cityscapes annotates this frame of each sequence
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


def _annotation(sample: Sample) -> dict[str, Any]:
    """Return the content of a polygon file; later objects lie in front of earlier objects."""
    height, width = sample.image.shape[:2]
    frame = [[0, 0], [width - 1, 0], [width - 1, height - 1], [0, height - 1]]
    objects = [{"label": BACKGROUND, "polygon": frame}]
    for obj in sample.scene.objects:
        polygon = trace_outline(silhouette(sample, obj), obj.centre).tolist()
        objects.append({"label": LABELS[obj.category], "polygon": polygon})
    return {"imgHeight": height, "imgWidth": width, "objects": objects}


def trace_outline(mask: np.ndarray, centre: tuple[float, float]) -> np.ndarray:
    """Trace the outline of an object that is fully visible from its centre, and ignore holes.

    Args:
        mask: bool (height, width), not empty.
        centre: point (x, y) in the image; the pixel [row, column] is centred at (column + 0.5, row + 0.5).

    Returns:
        int (points, 2): (column, row) of the pixels where rays from the centre leave the mask. A ray that leaves the
        image before it reaches the mask gives the pixel where it leaves the image.
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
