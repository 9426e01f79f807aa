"""Checks that find, before training, why the evaluation of a data set would fail."""

import logging
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.data.catalog import Metadata
from detectron2.utils import comm
from detectron2.utils.file_io import PathManager

from ..data.datasets.coco import coco_errors, coco_warnings
from ..data.datasets.voc import annotation_file, image_ids, read_annotation
from ..data.inspection.records import inspect
from ..utils.errors import UsageError
from .cityscapes_checks import cityscapes_errors

logger = logging.getLogger(__name__)


def evaluation_errors(name: str) -> list[str]:
    """Return the errors that make an evaluation with the loaded data set ``name`` fail, beside those in its dicts."""
    metadata = MetadataCatalog.get(name)
    find = ERRORS.get(metadata.get("evaluator_type", None))
    return find(metadata) if find else []


def evaluation_warnings(name: str) -> list[str]:
    """Return a sentence if training and evaluation skip annotations in the file of data set ``name``; else []."""
    metadata = MetadataCatalog.get(name)
    is_coco = metadata.get("evaluator_type", None) == "coco" and metadata.get("json_file", None)
    return coco_warnings(PathManager.get_local_path(metadata.json_file)) if is_coco else []


def _coco(metadata: Metadata) -> list[str]:
    """Check the file that the evaluator reads, if there is a file."""
    return coco_errors(PathManager.get_local_path(metadata.json_file)) if metadata.get("json_file", None) else []


def _voc(metadata: Metadata) -> list[str]:
    errors = []
    for image_id, number in Counter(image_ids(metadata.dirname, metadata.split)).items():
        if number > 1:
            errors.append(f"split '{metadata.split}' names {image_id} {number} times: name each image once")
        try:
            read_annotation(annotation_file(metadata.dirname, image_id))
        except UsageError as error:
            errors.append(str(error).removesuffix("."))
    return errors


def _cityscapes(metadata: Metadata) -> list[str]:
    return cityscapes_errors(metadata.image_dir, metadata.gt_dir)


# evaluator_type of the metadata -> function of the metadata
ERRORS: dict[str, Callable[[Metadata], list[str]]] = {
    "coco": _coco,
    "pascal_voc": _voc,
    "cityscapes_sem_seg": _cityscapes,
    "cityscapes_instance": _cityscapes,
}


def check_to_evaluate(name: str, dicts: Sequence[dict], masks: bool) -> None:
    """Check, before a model is built, that data set ``name`` can be evaluated; all processes must call this.

    Args:
        name: name of a data set with an evaluator.
        dicts: its dataset dicts.
        masks: whether the model predicts masks.

    Raises:
        UsageError: for the first error.
    """
    needs_masks = masks and MetadataCatalog.get(name).evaluator_type == "coco"
    _refuse([name], dicts, "bitmask" if needs_masks else "", lambda: evaluation_errors(name))


def warn_of_absent_classes(name: str) -> None:
    """Warn of classes without an object that counts in the annotations of data set ``name`` in VOC's layout."""
    metadata = MetadataCatalog.get(name)
    seen: set[str] = set()
    for image_id in image_ids(metadata.dirname, metadata.split):
        objects = read_annotation(annotation_file(metadata.dirname, image_id))[2]
        seen.update(found.name for found in objects if not found.difficult)
    absent = [str(x) for x in metadata.thing_classes if x not in seen]
    if absent:
        logger.warning(
            f"Split '{metadata.split}' of {metadata.dirname} has no {', '.join(absent)}: AP leaves them out."
        )


def warn_of_another_scale(cfg: CfgNode, name: str, dicts: Sequence[Mapping[str, Any]]) -> None:
    """Warn of test images of a segmentation that are not resized, of another scale than the training's images.

    Args:
        cfg: config of a segmentation.
        name: name of the test set.
        dicts: its dataset dicts; images of unknown size are not compared.
    """
    sides = [min(image["height"], image["width"]) for image in dicts if "height" in image and "width" in image]
    if cfg.MODEL.META_ARCHITECTURE != "SemanticSegmentor" or cfg.INPUT.MIN_SIZE_TEST != 0 or not sides:
        return
    side, low, high = int(statistics.median(sides)), min(cfg.INPUT.MIN_SIZE_TRAIN), max(cfg.INPUT.MIN_SIZE_TRAIN)
    if not low <= side <= high:
        logger.warning(
            f"Images of '{name}' have a shorter side of {side} pixels, and INPUT.MIN_SIZE_TEST 0 tests them as they "
            f"are, but training resizes to {low} to {high}: set INPUT.MIN_SIZE_TRAIN '({side // 2}, {2 * side})' with "
            "a fitting INPUT.MAX_SIZE_TRAIN, or INPUT.MIN_SIZE_TEST and MAX_SIZE_TEST."
        )


def warn_of_crowded_images(cfg: CfgNode, name: str, dicts: Sequence[Mapping[str, Any]]) -> None:
    """Warn of test images with more objects than a detector may find.

    Args:
        cfg: config of a downstream task.
        name: name of the test set.
        dicts: its dataset dicts.
    """
    limit = cfg.TEST.DETECTIONS_PER_IMAGE
    counts = [sum(not found.get("iscrowd") for found in image.get("annotations", ())) for image in dicts]
    crowded = [count for count in counts if count > limit]
    if crowded:
        logger.warning(
            f"{len(crowded)} of {len(dicts)} images of '{name}' have more than the {limit} objects that a detector may "
            f"find, up to {max(crowded)}: set TEST.DETECTIONS_PER_IMAGE {max(crowded)} or more."
        )


def check_to_train(names: Sequence[str], dicts: Sequence[dict], masks: str) -> None:
    """Check, before a model is built, the images of the data sets ``names``; all processes must call this.

    Args:
        names: names of data sets with the same classes.
        dicts: their dataset dicts.
        masks: INPUT.MASK_FORMAT if the model learns masks, "" otherwise.

    Raises:
        UsageError: for the first error.
    """
    _refuse(names, dicts, masks)


def _refuse(names: Sequence[str], dicts: Sequence[dict], masks: str, further: Callable[[], list[str]] = list) -> None:
    """Raise a UsageError in all processes for the first error in the main process; log the first warning."""
    errors: list[str] = []
    shown = "', '".join(names)
    command = f"`python -m pixpro_d2.tools.check_data {names[0] if len(names) == 1 else 'NAME'}`"
    if comm.is_main_process():
        logger.info(f"Checking {len(dicts)} images of '{shown}' ...")
        report = inspect(dicts, MetadataCatalog.get(names[0]), sample=0, masks=masks)
        errors, warnings = report.errors + further(), report.warnings
        if warnings:
            rest = f" ({command} lists {len(warnings)} such warnings)" if len(warnings) > 1 else ""
            logger.warning(f"Data set '{shown}': {warnings[0]}{rest}.")
    errors = comm.all_gather(errors)[0]
    if errors:
        rest = f"; {command} lists all {len(errors)} errors" if len(errors) > 1 else ""
        raise UsageError(f"Data set '{shown}': {errors[0]}{rest}.")


def check_expected_tasks(expected: Iterable[Sequence], results: Mapping[str, Any]) -> None:
    """Raise a UsageError if TEST.EXPECTED_RESULTS names a task that is not in the results of the evaluation.

    Args:
        expected: (task, metric, value, tolerance) of each expected result.
        results: metrics by task.
    """
    unknown = sorted({task for task, *_ in expected} - set(results))
    if unknown:
        raise UsageError(
            f"TEST.EXPECTED_RESULTS names {', '.join(unknown)}, but the evaluation gives {', '.join(results)}: name "
            "one of these."
        )
