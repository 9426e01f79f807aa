"""detectron2's Cityscapes evaluators, with any version of NumPy."""

import numpy as np
from detectron2 import evaluation

from ..utils.cityscapes_alias import alias_cityscapesscripts
from .patching import replaced

alias_cityscapesscripts(
    "helpers.labels", "evaluation.evalInstanceLevelSemanticLabeling", "evaluation.evalPixelLevelSemanticLabeling"
)


def _numpy():
    """Context with np.in1d, which cityscapesscripts 2.3 calls and NumPy 2.4 removed."""
    # They differ in the shape of the result, which cityscapesscripts sets itself.
    return replaced(np, "in1d", getattr(np, "in1d", np.isin))


class CityscapesSemSegEvaluator(evaluation.CityscapesSemSegEvaluator):
    """As detectron2's: IoU over classes and over categories, in per cent, by cityscapesscripts."""

    def evaluate(self):
        with _numpy():
            return super().evaluate()


class CityscapesInstanceEvaluator(evaluation.CityscapesInstanceEvaluator):
    """As detectron2's: AP and AP50 of masks, in per cent, by cityscapesscripts."""

    def evaluate(self):
        from cityscapesscripts.evaluation import evalInstanceLevelSemanticLabeling as instance_evaluation  # an extra

        # cityscapesscripts saves its matches to the current folder, where nobody looks for them, and fails on counts
        # that are NumPy's integers, which they are from NumPy 2.4 on.
        with _numpy(), replaced(instance_evaluation, "writeDict2JSON", lambda content, path: None):
            return super().evaluate()
