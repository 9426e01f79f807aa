"""The evaluator that goes with a data set."""

import os

from detectron2.data import MetadataCatalog
from detectron2.evaluation import COCOEvaluator, PascalVOCDetectionEvaluator

from ..errors import UsageError

# evaluator_type of the data set's metadata -> function of (data set name, output folder)
EVALUATORS = {
    # The fast implementation needs detectron2's compiled extension; the results are the same.
    "coco": lambda name, folder: COCOEvaluator(name, output_dir=folder, use_fast_impl=False),
    "pascal_voc": lambda name, folder: PascalVOCDetectionEvaluator(name),
}


def build_evaluator(cfg, dataset_name):
    """DatasetEvaluator of ``dataset_name``, writing below ``OUTPUT_DIR/inference``.

    Raises:
        UsageError: for a data set without annotations that an evaluator knows.
    """
    kind = MetadataCatalog.get(dataset_name).get("evaluator_type", None)
    if kind not in EVALUATORS:
        raise UsageError(
            f"Data set '{dataset_name}' of DATASETS.TEST cannot be evaluated (evaluator type {kind}): "
            f"its metadata must name one of {', '.join(EVALUATORS)}."
        )
    return EVALUATORS[kind](dataset_name, os.path.join(cfg.OUTPUT_DIR, "inference"))
