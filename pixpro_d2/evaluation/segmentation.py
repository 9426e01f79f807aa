"""Mean IoU of semantic segmentation."""

from typing import Any

import numpy as np
from detectron2.evaluation import SemSegEvaluator


class SegmentationEvaluator(SemSegEvaluator):
    """Evaluate as detectron2's main branch does: mIoU is the mean of the IoU of the classes in the test set.

    detectron2 v0.6 divides the same sum by the number of classes in the test set or in any prediction. There, a single
    pixel of a class that the test set lacks costs as much as a wrong class.
    """

    def evaluate(self) -> Any:
        results = super().evaluate()
        if results is not None:
            metrics = results["sem_seg"]
            found = np.array([metrics[f"IoU-{name}"] for name in self._class_names])
            metrics["mIoU"] = float(found[~np.isnan(found)].mean()) if not np.isnan(found).all() else float("nan")
        return results
