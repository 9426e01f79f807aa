"""Write rendered objects one by one, for classification."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from ..scene import CLASSES
from .sample import Sample, silhouette

MIN_VISIBLE_SHARE = 0.75  # least visible share of the area of a written object


def write_classes(root: Path, split: str, samples: Iterable[Sample]) -> Iterator[Sample]:
    """Write ``<split>/<class>/<image>_<object>.jpg``: one upright crop around each object.

    Skip objects that reach out of the image, and objects that are hidden by more than a quarter. Every class has a
    folder, even an empty folder, so that all splits number the classes alike. See :func:`write_coco` for arguments and
    yields.
    """
    folders = [root / split / name for name in CLASSES]
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
    for sample in samples:
        height, width = sample.image.shape[:2]
        for number, (obj, mask) in enumerate(zip(sample.scene.objects, sample.masks, strict=True)):
            x0, y0 = (int(np.floor(c - obj.size / 2)) for c in obj.centre)
            x1, y1 = (int(np.ceil(c + obj.size / 2)) for c in obj.centre)
            if min(x0, y0) < 0 or x1 > width or y1 > height:
                continue
            if mask.sum() >= MIN_VISIBLE_SHARE * silhouette(sample, obj).sum():
                path = folders[obj.category] / f"{sample.stem}_{number}.jpg"
                Image.fromarray(sample.image[y0:y1, x0:x1]).save(path, quality=95)
        yield sample
