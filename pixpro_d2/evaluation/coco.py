"""Average precision on COCO annotations."""

import contextlib
import io
from collections.abc import Mapping, Sequence
from typing import Any

from detectron2.evaluation import COCOEvaluator
from pycocotools import mask as rle
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from ..data.datasets.object_checks import are_finite, is_polygon

OFFICIAL_DETECTIONS = 100  # detections of a class in an image that COCO's official AP counts


class CocoEvaluator(COCOEvaluator):
    """Evaluate as detectron2 does, after completing in memory annotations that lack keys of COCO's evaluation.

    A model that detects nothing has an AP of 0. detectron2 gives NaN, which means that there is nothing to detect.
    """

    def __init__(
        self,
        dataset_name: str,
        output_dir: str,
        sigmas: Sequence[float] = (),
        kinds: Sequence[str] = ("bbox",),
        max_detections: int = OFFICIAL_DETECTIONS,
    ) -> None:
        """
        Args:
            dataset_name: data set with annotations in COCO's form.
            output_dir: folder for the predictions.
            sigmas: tolerances of the keypoints, TEST.KEYPOINT_OKS_SIGMAS; () for COCO's 17.
            kinds: which of ``bbox``, ``segm`` and ``keypoints`` to evaluate if the model detects nothing. Otherwise the
                detections decide.
            max_detections: limit on the detections of a class in an image that AP counts, at least COCO's 100.
        """
        # The fast implementation needs detectron2's compiled extension; the results are the same.
        super().__init__(
            dataset_name,
            output_dir=output_dir,
            max_dets_per_image=max(max_detections, OFFICIAL_DETECTIONS),
            use_fast_impl=False,
            kpt_oks_sigmas=tuple(sigmas),
        )
        self._kinds = list(kinds)
        if self._do_evaluation:
            complete(self._coco_api)

    def _tasks_from_predictions(self, predictions: Sequence[Mapping[str, Any]]) -> list[str]:
        return super()._tasks_from_predictions(predictions) if predictions else self._kinds

    def _derive_coco_results(
        self, coco_eval: COCOeval | None, iou_type: str, class_names: Sequence[str] | None = None
    ) -> dict[str, float]:
        if coco_eval is None:
            self._logger.warning(f"The model detects nothing: {iou_type} AP is 0 wherever there are objects.")
            coco_eval = self._evaluate_nothing(iou_type)
        return super()._derive_coco_results(coco_eval, iou_type, class_names)

    def _evaluate_nothing(self, iou_type: str) -> COCOeval:
        """Return the evaluation of no detections, which :meth:`COCO.loadRes` cannot read."""
        nothing = COCO()
        nothing.dataset = {**self._coco_api.dataset, "annotations": []}
        with contextlib.redirect_stdout(io.StringIO()):
            nothing.createIndex()
            evaluation = COCOeval(self._coco_api, nothing, iou_type)
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        return evaluation


def complete(api: COCO) -> None:
    """Complete the annotations of ``api`` in place, so that pycocotools can evaluate with them.

    - A missing ``iscrowd`` is 0. An ``area`` that is missing, negative or no number becomes the area of the mask, or of
      the box if there is no mask.
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
        area = annotation.get("area")
        if not are_finite([area]) or area < 0:  # pycocotools drops the object, or fails
            has_mask = mask and annotation["image_id"] in api.imgs
            annotation["area"] = float(rle.area(api.annToRLE(annotation))) if has_mask else width * height
    with contextlib.redirect_stdout(io.StringIO()):
        api.createIndex()
