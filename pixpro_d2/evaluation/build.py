"""The evaluator that goes with a data set."""

import os
from collections.abc import Callable, Sequence

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.evaluation import DatasetEvaluator, SemSegEvaluator

from ..utils.errors import UsageError
from .checks import check_to_evaluate, warn_of_absent_classes
from .cityscapes import CityscapesInstanceEvaluator, CityscapesSemSegEvaluator
from .classification import ClassificationEvaluator
from .coco import CocoEvaluator
from .voc import VOCEvaluator

# evaluator_type of the data set's metadata -> function of (data set name, output folder)
EVALUATORS: dict[str, Callable[[str, str], DatasetEvaluator]] = {
    "coco": lambda name, folder: CocoEvaluator(name, folder),
    "pascal_voc": lambda name, folder: VOCEvaluator(name),
    "sem_seg": lambda name, folder: SemSegEvaluator(name, output_dir=folder),
    "cityscapes_sem_seg": lambda name, folder: CityscapesSemSegEvaluator(name),
    "cityscapes_instance": lambda name, folder: CityscapesInstanceEvaluator(name),
    "classification": lambda name, folder: ClassificationEvaluator(),
}


def check_test_set(name: str, dicts: Sequence[dict], masks: bool) -> None:
    """Check, before a model is trained or loaded, that a data set of DATASETS.TEST can be evaluated.

    Args:
        name: name of the data set.
        dicts: its dataset dicts.
        masks: whether the model predicts masks.

    Raises:
        UsageError: if no evaluator knows the data set's annotations, or the data set has errors.
    """
    kind = MetadataCatalog.get(name).get("evaluator_type", None)
    if kind not in EVALUATORS:
        raise UsageError(
            f"Data set '{name}' of DATASETS.TEST cannot be evaluated (evaluator type {kind}): "
            f"its metadata must name one of {', '.join(EVALUATORS)}."
        )
    if kind != "classification":  # millions of images, listed already
        check_to_evaluate(name, dicts, masks)
    if kind == "pascal_voc":
        warn_of_absent_classes(name)


def build_evaluator(cfg: CfgNode, dataset_name: str) -> DatasetEvaluator:
    """Build the evaluator of ``dataset_name``, a data set that passed :func:`check_test_set`.

    The evaluator writes below ``OUTPUT_DIR/inference``.
    """
    kind = MetadataCatalog.get(dataset_name).evaluator_type
    return EVALUATORS[kind](dataset_name, os.path.join(cfg.OUTPUT_DIR, "inference"))
