"""Average precision on COCO annotations."""

import contextlib
import io
from collections.abc import Sequence

from detectron2.evaluation import COCOEvaluator
from pycocotools import mask as rle
from pycocotools.coco import COCO

from ..data.datasets.object_checks import is_polygon


class CocoEvaluator(COCOEvaluator):
    """Evaluate as detectron2 does, after completing in memory annotations that lack keys of COCO's evaluation."""

    def __init__(self, dataset_name: str, output_dir: str, sigmas: Sequence[float] = ()) -> None:
        """
        Args:
            dataset_name: data set with annotations in COCO's form.
            output_dir: folder for the predictions.
            sigmas: tolerances of the keypoints, TEST.KEYPOINT_OKS_SIGMAS; () for COCO's 17.
        """
        # The fast implementation needs detectron2's compiled extension; the results are the same.
        super().__init__(dataset_name, output_dir=output_dir, use_fast_impl=False, kpt_oks_sigmas=tuple(sigmas))
        if self._do_evaluation:
            complete(self._coco_api)


def complete(api: COCO) -> None:
    """Complete the annotations of ``api`` in place, so that pycocotools can evaluate with them.

    - A missing ``iscrowd`` is 0. A missing ``area`` is the area of the mask, or of the box if there is no mask.
    - Polygons of fewer than three points are skipped, as in training. A crowd without a mask gets its box as mask.
    - Annotations are numbered from 1, because pycocotools never counts the object with the id 0 as found.
    """
    for number, annotation in enumerate(api.dataset["annotations"], start=1):
        annotation["id"] = number
        annotation["iscrowd"] = int(annotation.get("iscrowd") or 0)
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
