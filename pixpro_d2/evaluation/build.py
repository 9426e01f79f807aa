"""The evaluator that goes with a data set."""

import logging
import os
from xml.etree import ElementTree

from detectron2.data import MetadataCatalog
from detectron2.evaluation import COCOEvaluator, PascalVOCDetectionEvaluator, SemSegEvaluator
from detectron2.evaluation.pascal_voc_evaluation import parse_rec

from ..data.datasets.voc import image_ids
from ..errors import UsageError
from .cityscapes import CityscapesInstanceEvaluator, CityscapesSemSegEvaluator
from .classification import ClassificationEvaluator

logger = logging.getLogger(__name__)

# evaluator_type of the data set's metadata -> function of (data set name, output folder)
EVALUATORS = {
    # The fast implementation needs detectron2's compiled extension; the results are the same.
    "coco": lambda name, folder: COCOEvaluator(name, output_dir=folder, use_fast_impl=False),
    "pascal_voc": lambda name, folder: PascalVOCDetectionEvaluator(name),
    "sem_seg": lambda name, folder: SemSegEvaluator(name, output_dir=folder),
    "cityscapes_sem_seg": lambda name, folder: CityscapesSemSegEvaluator(name),
    "cityscapes_instance": lambda name, folder: CityscapesInstanceEvaluator(name),
    "classification": lambda name, folder: ClassificationEvaluator(),
}


def check_test_sets(names):
    """Check before training, or loading a model, that every data set of DATASETS.TEST can be evaluated.

    Raises:
        UsageError: for a data set without annotations that an evaluator knows, or a VOC annotation without
            what detectron2's VOC evaluation reads.
    """
    for name in names:
        metadata = MetadataCatalog.get(name)
        kind = metadata.get("evaluator_type", None)
        if kind not in EVALUATORS:
            raise UsageError(
                f"Data set '{name}' of DATASETS.TEST cannot be evaluated (evaluator type {kind}): "
                f"its metadata must name one of {', '.join(EVALUATORS)}."
            )
        if kind == "pascal_voc":
            _check_voc_annotations(metadata)


def _check_voc_annotations(metadata):
    """Parse a split's XML files as detectron2's evaluator will; it reads more of them than training does."""
    seen = set()
    for image_id in image_ids(metadata.dirname, metadata.split):
        path = os.path.join(metadata.dirname, "Annotations", f"{image_id}.xml")
        try:
            seen.update(x["name"] for x in parse_rec(path))
        except (OSError, ElementTree.ParseError, AttributeError, TypeError, ValueError) as error:
            raise UsageError(
                f"{path} cannot be evaluated ({error}): VOC evaluation needs a name, pose, truncated, difficult and "
                "whole-number bndbox for each object."
            ) from error
    absent = [name for name in metadata.thing_classes if name not in seen]
    if absent:
        logger.warning(f"Split '{metadata.split}' of {metadata.dirname} has no {', '.join(absent)}: AP will be NaN.")


def build_evaluator(cfg, dataset_name):
    """DatasetEvaluator of ``dataset_name``, a data set that passed :func:`check_test_sets`.

    It writes below ``OUTPUT_DIR/inference``.
    """
    kind = MetadataCatalog.get(dataset_name).evaluator_type
    return EVALUATORS[kind](dataset_name, os.path.join(cfg.OUTPUT_DIR, "inference"))
