"""detectron2's Cityscapes evaluators, with any version of NumPy."""

import os
import tempfile
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
from detectron2 import evaluation
from detectron2.evaluation.cityscapes_evaluation import CityscapesEvaluator
from detectron2.utils import comm

from ..utils.cityscapes_alias import alias_cityscapesscripts
from ..utils.patching import replaced

alias_cityscapesscripts(
    "helpers.labels", "evaluation.evalInstanceLevelSemanticLabeling", "evaluation.evalPixelLevelSemanticLabeling"
)


def _numpy() -> AbstractContextManager[None]:
    """Return a context with np.in1d, which cityscapesscripts 2.3 calls and NumPy 2.4 removed."""
    # np.isin returns another shape than np.in1d, but cityscapesscripts reshapes the result.
    return replaced(np, "in1d", getattr(np, "in1d", np.isin))


class _SharedFolder(CityscapesEvaluator):
    """Keep the predictions of all processes, until the end of the evaluation, in a folder that all machines share.

    detectron2 keeps them in the temporary folder of the first process, which another machine does not have.
    """

    def __init__(self, dataset_name: str, output_dir: str) -> None:
        """Make the evaluator of a data set.

        Args:
            dataset_name: name of the data set.
            output_dir: folder on a disk that all machines share; :meth:`reset` makes it.
        """
        super().__init__(dataset_name)
        self._output_dir = output_dir

    def reset(self) -> None:
        folder = ""
        if comm.is_main_process():
            os.makedirs(self._output_dir, exist_ok=True)
            self._working_dir = tempfile.TemporaryDirectory(prefix="cityscapes_", dir=self._output_dir)
            folder = self._working_dir.name
        self._temp_dir = comm.all_gather(folder)[0]


class CityscapesSemSegEvaluator(_SharedFolder, evaluation.CityscapesSemSegEvaluator):
    """Compute IoU over classes and over categories as detectron2 does, in per cent, by cityscapesscripts."""

    def evaluate(self) -> Any:
        with _numpy():
            return super().evaluate()


class CityscapesInstanceEvaluator(_SharedFolder, evaluation.CityscapesInstanceEvaluator):
    """Compute AP and AP50 of masks as detectron2 does, in per cent, by cityscapesscripts."""

    def evaluate(self) -> Any:
        from cityscapesscripts.evaluation import evalInstanceLevelSemanticLabeling as instance_evaluation  # an extra

        # cityscapesscripts saves its matches to the current folder, where nobody looks for them. It also fails on
        # counts that are NumPy's integers, as all counts are from NumPy 2.4 on.
        with _numpy(), replaced(instance_evaluation, "writeDict2JSON", lambda content, path: None):
            return super().evaluate()
