"""Write COCO instance files of rendered scenes."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as rle

from ..scene import CLASSES, mask_to_box
from .sample import Sample, write_jpeg


def write_coco(root: Path, split: str, samples: Iterable[Sample]) -> Iterator[Sample]:
    """Write COCO instance files: ``JPEGImages``, shared with VOC, and ``annotations/<split>.json``.

    The id of an image is its number. The id of a category is its index in ``CLASSES`` plus one. Segmentations are
    run-length encoded.

    Args:
        root: existing folder of the data set.
        split: name of the split.
        samples: samples to write.

    Yields:
        Each of ``samples``, after its files are written.
    """
    (root / "annotations").mkdir(exist_ok=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for sample in samples:
        write_jpeg(root, sample)
        size = dict(zip(("height", "width"), sample.image.shape, strict=False))
        images.append({"id": sample.number, "file_name": f"{sample.stem}.jpg", **size})
        for obj, mask in zip(sample.scene.objects, sample.masks, strict=True):
            x0, y0, x1, y1 = mask_to_box(mask)
            runs = rle.encode(np.asfortranarray(mask, dtype=np.uint8))
            annotation = {
                "id": len(annotations) + 1,  # COCO's evaluation reads 0 as "no match"
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
