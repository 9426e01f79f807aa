"""Mean IoU of semantic segmentation."""

import logging
import os
from typing import Any

import numpy as np
import torch
from detectron2.evaluation import SemSegEvaluator

from ..utils.patching import replaced


class SegmentationEvaluator(SemSegEvaluator):
    """Evaluate as detectron2's main branch does: mIoU is the mean of the IoU of the classes in the test set.

    detectron2 v0.6 divides the same sum by the number of classes in the test set or in any prediction. There, a single
    pixel of a class that the test set lacks costs as much as a wrong class.
    """

    def evaluate(self) -> Any:
        with replaced(self, "_logger", logging.Logger("silent", logging.CRITICAL)):
            results = super().evaluate()
        if results is not None:
            metrics = results["sem_seg"]
            found = np.array([metrics[f"IoU-{name}"] for name in self._class_names])
            metrics["mIoU"] = float(found[~np.isnan(found)].mean()) if not np.isnan(found).all() else float("nan")
            if self._output_dir:
                torch.save(metrics, os.path.join(self._output_dir, "sem_seg_evaluation.pth"))
            self._logger.info(results)
        return results
