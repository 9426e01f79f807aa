"""detectron2's Cityscapes evaluators, with any version of NumPy."""

import contextlib

import numpy as np
from detectron2 import evaluation


@contextlib.contextmanager
def _in1d():
    """Provide np.in1d, which cityscapesscripts 2.3 calls and NumPy 2.4 removed."""
    if hasattr(np, "in1d"):
        yield
        return
    np.in1d = np.isin  # the same but for the shape, which cityscapesscripts restores itself
    try:
        yield
    finally:
        del np.in1d


class CityscapesSemSegEvaluator(evaluation.CityscapesSemSegEvaluator):
    """As detectron2's: IoU over classes and over categories, in per cent, by cityscapesscripts."""

    def evaluate(self):
        with _in1d():
            return super().evaluate()


class CityscapesInstanceEvaluator(evaluation.CityscapesInstanceEvaluator):
    """As detectron2's: AP and AP50 of masks, in per cent, by cityscapesscripts."""

    def evaluate(self):
        with _in1d():
            return super().evaluate()
