"""The evaluator that goes with a data set."""

import logging
import os
import re
from collections.abc import Callable, Sequence

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm

from ..utils.errors import UsageError
from .checks import check_to_evaluate, warn_of_absent_classes
from .cityscapes import CityscapesInstanceEvaluator, CityscapesSemSegEvaluator
from .classification import ClassificationEvaluator
from .coco import OFFICIAL_DETECTIONS, CocoEvaluator
from .segmentation import SegmentationEvaluator
from .voc import VOCEvaluator

logger = logging.getLogger(__name__)

KEPT = ("coco", "sem_seg")  # values of evaluator_type whose predictions stay in files
# evaluator_type of the data set's metadata -> function of (config, data set name, output folder)
EVALUATORS: dict[str, Callable[[CfgNode, str, str], DatasetEvaluator]] = {
    "coco": lambda cfg, name, folder: CocoEvaluator(
        name, folder, cfg.TEST.KEYPOINT_OKS_SIGMAS, _kinds(cfg), cfg.TEST.DETECTIONS_PER_IMAGE
    ),
    "pascal_voc": lambda cfg, name, folder: VOCEvaluator(name),
    "sem_seg": lambda cfg, name, folder: SegmentationEvaluator(name, output_dir=folder),
    "cityscapes_sem_seg": lambda cfg, name, folder: CityscapesSemSegEvaluator(name, folder),
    "cityscapes_instance": lambda cfg, name, folder: CityscapesInstanceEvaluator(name, folder),
    "classification": lambda cfg, name, folder: ClassificationEvaluator(),
}

BOXES_ONLY = ("RetinaNet", "FCOSDetector")  # detectors for which MODEL.MASK_ON and KEYPOINT_ON mean nothing


def predicts_masks(cfg: CfgNode) -> bool:
    """Return whether the model of ``cfg`` predicts masks."""
    return cfg.MODEL.MASK_ON and cfg.MODEL.META_ARCHITECTURE not in BOXES_ONLY


def _kinds(cfg: CfgNode) -> list[str]:
    """Return the names that COCO's evaluation has for the predictions of a detector."""
    keypoints = cfg.MODEL.KEYPOINT_ON and cfg.MODEL.META_ARCHITECTURE not in BOXES_ONLY
    return ["bbox", *(["segm"] if predicts_masks(cfg) else []), *(["keypoints"] if keypoints else [])]


def check_test_set(name: str, dicts: Sequence[dict], masks: bool) -> None:
    """Check, before a model is trained or loaded, that a data set of DATASETS.TEST can be evaluated.

    Args:
        name: name of the data set.
        dicts: its dataset dicts.
        masks: whether the model predicts masks.

    Raises:
        UsageError: if no evaluator knows the data set's annotations, the data set has errors, or its evaluation needs
            masks that the model does not predict.
    """
    kind = MetadataCatalog.get(name).get("evaluator_type", None)
    if kind not in EVALUATORS:
        raise UsageError(
            f"Data set '{name}' of DATASETS.TEST cannot be evaluated (evaluator type {kind}): "
            f"its metadata must name one of {', '.join(EVALUATORS)}."
        )
    if kind == "cityscapes_instance" and not masks:
        raise UsageError(
            f"Data set '{name}' of DATASETS.TEST is evaluated by masks, which the model does not predict: take a Mask "
            "R-CNN with MODEL.MASK_ON True, or a test set with boxes, such as voc:DIR@SPLIT."
        )
    if kind != "classification":  # millions of images, listed already
        check_to_evaluate(name, dicts, masks)
    if kind == "pascal_voc":
        warn_of_absent_classes(name)


def build_evaluator(cfg: CfgNode, dataset_name: str) -> DatasetEvaluator:
    """Build the evaluator of ``dataset_name``, a data set that passed :func:`check_test_set`.

    The evaluator writes below ``OUTPUT_DIR/inference``, or below a folder there for each of several test sets.
    """
    kind = MetadataCatalog.get(dataset_name).evaluator_type
    folder, names = os.path.join(cfg.OUTPUT_DIR, "inference"), list(cfg.DATASETS.TEST)
    if len(names) > 1:
        title = re.sub(r"[^A-Za-z0-9_.-]+", "_", dataset_name)[-100:]  # file systems allow 255 bytes
        folder = os.path.join(folder, f"{names.index(dataset_name)}_{title}")
    if kind in KEPT and comm.is_main_process():
        logger.info(f"The predictions on '{dataset_name}' go to {folder}.")
        if kind == "coco" and cfg.TEST.DETECTIONS_PER_IMAGE > OFFICIAL_DETECTIONS:
            logger.info(
                f"AP counts up to {cfg.TEST.DETECTIONS_PER_IMAGE} detections of a class in an image "
                f"(TEST.DETECTIONS_PER_IMAGE); COCO's official AP counts {OFFICIAL_DETECTIONS}."
            )
    return EVALUATORS[kind](cfg, dataset_name, folder)
