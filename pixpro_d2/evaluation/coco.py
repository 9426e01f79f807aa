"""Average precision on COCO annotations."""

import contextlib
import io

from detectron2.evaluation import COCOEvaluator
from pycocotools import mask as rle
from pycocotools.coco import COCO

from ..data.datasets.object_checks import is_polygon


class CocoEvaluator(COCOEvaluator):
    """As detectron2's, in memory completing annotations that lack what COCO's evaluation reads."""

    def __init__(self, dataset_name, output_dir):
        # The fast implementation needs detectron2's compiled extension; the results are the same.
        super().__init__(dataset_name, output_dir=output_dir, use_fast_impl=False)
        if self._do_evaluation:
            complete(self._coco_api)


def complete(api: COCO) -> None:
    """Complete the annotations of ``api`` in place, so that pycocotools can evaluate with them.

    - ``iscrowd`` is 0, and ``area`` that of the mask, or of the box where there is no mask.
    - Polygons of fewer than three points are left out, as in training. A crowd without a mask has that of its box.
    - Annotations are numbered from 1: pycocotools takes the object with the id 0 for one that is never found.
    """
    for number, annotation in enumerate(api.dataset["annotations"], start=1):
        annotation["id"] = number
        annotation["iscrowd"] = annotation.get("iscrowd") or 0
        x, y, width, height = annotation["bbox"]
        mask = annotation.get("segmentation")
        if isinstance(mask, list):
            annotation["segmentation"] = mask = [polygon for polygon in mask if is_polygon(polygon)]
        if not mask and annotation["iscrowd"]:
            corners = [x, y, x + width, y, x + width, y + height, x, y + height]
            annotation["segmentation"] = mask = [corners]
        if annotation.get("area") is None:
            has_mask = mask and annotation["image_id"] in api.imgs
            annotation["area"] = float(rle.area(api.annToRLE(annotation))) if has_mask else width * height
    with contextlib.redirect_stdout(io.StringIO()):
        api.createIndex()
