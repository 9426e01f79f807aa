"""Define the labels and classes that a task needs, and check that the data sets of a config have them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog

from ...utils.class_names import first_difference
from ...utils.errors import UsageError
from ..datasets.catalog import load_dicts


@dataclass(frozen=True)
class Labels:
    """Describe a kind of labels.

    Attributes:
        words: name of the labels in messages.
        key: entry of a dataset dict that holds the labels.
        classes: attribute of a data set's metadata that lists the names of the classes.
        forms: addresses of data sets with such labels.
        task: name of the task in messages.
        unit: what the labels of a data set are counted in.
        number_keys: config keys of the number of classes, as text.
    """

    words: str
    key: str
    classes: str
    forms: str
    task: str
    unit: str
    number_keys: str


BOXES = Labels(
    words="boxes",
    key="annotations",
    classes="thing_classes",
    forms="voc:DIR@SPLIT or coco:JSON@IMAGE_DIR",
    task="detection",
    unit="boxes",
    number_keys="MODEL.ROI_HEADS.NUM_CLASSES (one-stage: MODEL.RETINANET or MODEL.FCOS)",
)
LABEL_MAPS = Labels(
    words="label maps",
    key="sem_seg_file_name",
    classes="stuff_classes",
    forms="semseg:IMAGE_DIR@LABEL_DIR or voc_seg:DIR@SPLIT",
    task="segmentation",
    unit="pixels",
    number_keys="MODEL.SEM_SEG_HEAD.NUM_CLASSES",
)
CATEGORIES = Labels(
    words="classes",
    key="category_id",
    classes="classes",
    forms="classes:DIR",
    task="classification",
    unit="images",
    number_keys="MODEL.CLASSIFIER.NUM_CLASSES",
)

# meta-architecture -> (its labels, node below MODEL with its NUM_CLASSES)
TASKS = {
    "GeneralizedRCNN": (BOXES, "ROI_HEADS"),
    "RetinaNet": (BOXES, "RETINANET"),
    "FCOSDetector": (BOXES, "FCOS"),
    "SemanticSegmentor": (LABEL_MAPS, "SEM_SEG_HEAD"),
    "LinearClassifier": (CATEGORIES, "CLASSIFIER"),
    "KNNClassifier": (CATEGORIES, "CLASSIFIER"),
}


def labels_of(image: Mapping[str, Any]) -> Labels | None:
    """Return the kind of labels in a dataset dict: a label map before boxes before a class, None without labels."""
    return next((labels for labels in (LABEL_MAPS, BOXES, CATEGORIES) if labels.key in image), None)


def check_labels(cfg: CfgNode, place: str, images: Iterable[dict]) -> None:
    """Check that every image has the labels that the task of ``cfg`` needs; a pre-training needs no labels.

    Args:
        cfg: config of any task.
        place: config key and names of the data sets, for messages.
        images: dataset dicts.

    Raises:
        UsageError: if an image has no labels; the message names the first such image.
    """
    task = cfg.MODEL.META_ARCHITECTURE
    if task not in TASKS:
        return
    labels, _ = TASKS[task]
    without = next((image for image in images if labels.key not in image), None)
    if without is not None:
        raise UsageError(
            f"{place} has no {labels.words} for {without['file_name']}, but {task} needs them: name a data set with "
            f"{labels.words}, such as {labels.forms}."
        )


def check_masks(cfg: CfgNode, place: str, images: Iterable[dict]) -> None:
    """Check that some object has a mask, or keypoints, if the detector of ``cfg`` predicts masks or keypoints.

    Args:
        cfg, place, images: see :func:`check_labels`, which must have passed.

    Raises:
        UsageError: if all objects have only boxes.
    """
    if TASKS.get(cfg.MODEL.META_ARCHITECTURE, (None,))[0] is not BOXES:
        return
    for switch, key, words in (("MASK_ON", "segmentation", "masks"), ("KEYPOINT_ON", "keypoints", "keypoints")):
        objects = [annotation for image in images for annotation in image["annotations"]] if cfg.MODEL[switch] else []
        if objects and not any(key in annotation for annotation in objects):
            raise UsageError(
                f"{place} has boxes without {words}: set MODEL.{switch} False, or name a data set with {words}."
            )


def check_classes(cfg: CfgNode, names: Sequence[str]) -> None:
    """Check that loaded data sets have the same classes, and as many classes as the model.

    Raises:
        UsageError: if classes differ; the message names the first class that differs, or the right number.
    """
    if cfg.MODEL.META_ARCHITECTURE not in TASKS:
        return
    labels, node = TASKS[cfg.MODEL.META_ARCHITECTURE]
    check_same_classes(labels, names)
    for name in names:
        classes, number = MetadataCatalog.get(name).get(labels.classes, None), cfg.MODEL[node].NUM_CLASSES
        if classes is not None and len(classes) != number and are_counted(name):
            raise UsageError(
                f"The highest class in the labels of '{name}' is {len(classes) - 1}, but MODEL.{node}.NUM_CLASSES is "
                f"{number}: set it to {len(classes)}, or name all classes in a classes.txt beside the labels of each "
                "split, if some of them have no label there."
            )
        if classes is not None and len(classes) != number:
            raise UsageError(
                f"MODEL.{node}.NUM_CLASSES is {number}, but data set '{name}' has {len(classes)} classes: set it to "
                f"{len(classes)}."
            )
        if labels is CATEGORIES and number == 1:
            raise UsageError(f"Data set '{name}' has one class, which leaves nothing to tell apart: add another class.")


def are_counted(name: str) -> bool:
    """Return whether the classes of a ``semseg:`` data set were counted in its labels, for lack of a classes.txt."""
    return name.startswith("semseg:") and MetadataCatalog.get(name).get("classes_are_numbers", False)


def class_names(cfg: CfgNode, names: Sequence[str]) -> list[str] | None:
    """Return the classes of the data sets ``names``, which are loaded and checked already; None without names."""
    if cfg.MODEL.META_ARCHITECTURE not in TASKS:
        return None
    labels, _ = TASKS[cfg.MODEL.META_ARCHITECTURE]
    for name in names:
        metadata = MetadataCatalog.get(name)
        classes = metadata.get(labels.classes, None)
        if classes is not None and not metadata.get("classes_are_numbers", False):
            return list(classes)
    return None


def trained_classes_known(cfg: CfgNode) -> list[str]:
    """Return the data sets of DATASETS.TRAIN that the model of an evaluation may have been trained on.

    These data sets list as many classes as the model has. Other data sets need not exist for an evaluation, and are not
    registered then.
    """
    if cfg.MODEL.META_ARCHITECTURE not in TASKS:
        return []
    labels, node = TASKS[cfg.MODEL.META_ARCHITECTURE]
    names = []
    for name in cfg.DATASETS.TRAIN:
        if name.startswith("coco:") and name in DatasetCatalog.list():  # the annotation file lists the classes
            load_dicts(name)
        if len(MetadataCatalog.get(name).get(labels.classes, [])) == cfg.MODEL[node].NUM_CLASSES:
            names.append(name)
    return names


def check_same_classes(labels: Labels, names: Sequence[str]) -> None:
    """Check that all data sets in ``names`` list the same classes in the same order.

    A data set whose classes have only numbers and no names agrees with all others.

    Raises:
        UsageError: if classes differ; the message names the first class that differs.
    """
    first, expected = "", None
    for name in names:
        metadata = MetadataCatalog.get(name)
        classes = metadata.get(labels.classes, None)
        if classes is None or metadata.get("classes_are_numbers", False):
            continue
        if expected is None:
            first, expected = name, classes
        if difference := first_difference(expected, classes):
            i, wanted, found = difference
            raise UsageError(
                f"Class {i} is {wanted} in data set '{first}', but {found} in data set '{name}': "
                "the data sets of DATASETS.TRAIN and TEST need the same classes in the same order."
            )
