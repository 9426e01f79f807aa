"""detectron2's Cityscapes evaluators, with any version of NumPy."""

from contextlib import AbstractContextManager
from typing import Any

import numpy as np
from detectron2 import evaluation

from ..utils.cityscapes_alias import alias_cityscapesscripts
from ..utils.patching import replaced

alias_cityscapesscripts(
    "helpers.labels", "evaluation.evalInstanceLevelSemanticLabeling", "evaluation.evalPixelLevelSemanticLabeling"
)


def _numpy() -> AbstractContextManager[None]:
    """Return a context with np.in1d, which cityscapesscripts 2.3 calls and NumPy 2.4 removed."""
    # np.isin returns another shape than np.in1d, but cityscapesscripts reshapes the result.
    return replaced(np, "in1d", getattr(np, "in1d", np.isin))


class CityscapesSemSegEvaluator(evaluation.CityscapesSemSegEvaluator):
    """Compute IoU over classes and over categories as detectron2 does, in per cent, by cityscapesscripts."""

    def evaluate(self) -> Any:
        with _numpy():
            return super().evaluate()


class CityscapesInstanceEvaluator(evaluation.CityscapesInstanceEvaluator):
    """Compute AP and AP50 of masks as detectron2 does, in per cent, by cityscapesscripts."""

    def evaluate(self) -> Any:
        from cityscapesscripts.evaluation import evalInstanceLevelSemanticLabeling as instance_evaluation  # an extra

        # cityscapesscripts saves its matches to the current folder, where nobody looks for them. It also fails on
        # counts that are NumPy's integers, as all counts are from NumPy 2.4 on.
        with _numpy(), replaced(instance_evaluation, "writeDict2JSON", lambda content, path: None):
            return super().evaluate()
