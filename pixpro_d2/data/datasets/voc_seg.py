"""``voc_seg:DIR@SPLIT``: semantic segmentation in Pascal VOC layout."""

import os
from collections.abc import Sequence

from detectron2.data import DatasetCatalog
from detectron2.data.datasets.pascal_voc import CLASS_NAMES

from ...utils.errors import UsageError
from .paths import check_split, read_class_names, read_image_ids, splits_in
from .semseg import load_sem_seg, set_metadata
from .voc import image_file

VOC_CLASSES = ("background", *CLASS_NAMES)  # alphabetical, as the ids in VOC's labels


def match_voc_files(root: str, split: str) -> dict[str, tuple[str, str]]:
    """Pair the image and label files of the images in ``ImageSets/Segmentation/split.txt``.

    The split ``train_aug`` is the usual list of 10,582 images with the further annotations of SBD (Hariharan
    et al. 2011). It takes its labels from ``SegmentationClassAug`` if this folder exists. All other splits take their
    labels from ``SegmentationClass``.

    Returns:
        A dict from the image name to (image file, label file).
    """
    folder = os.path.join(root, "SegmentationClassAug")
    if split != "train_aug" or not os.path.isdir(folder):
        folder = os.path.join(root, "SegmentationClass")

    def label_file(image_id: str) -> str:
        return os.path.join(folder, f"{image_id}.png")

    pairs = {}
    for image_id in read_image_ids(_split_file(root, split), lambda image_id: os.path.isfile(label_file(image_id))):
        label = label_file(image_id)
        if not os.path.isfile(label):
            raise UsageError(f"There is no label {os.path.abspath(label)}, which split '{split}' names.")
        pairs[image_id] = image_file(root, image_id), label
    return pairs


def register_voc_seg(name: str, root: str, split: str) -> None:
    """Register a VOC folder and split as data set ``name``, with the classes of root/classes.txt, or else of VOC."""
    path = _split_file(root, split)
    check_split(name, path, splits_in(os.path.dirname(path), ".txt"))
    _register(name, root, split, read_class_names(root) or list(VOC_CLASSES))


def register_voc_2012_sem_seg(root: str) -> None:
    """Register ``voc_2012_sem_seg_{train,val,train_aug}`` below the folder ``root``."""
    for split in ("train", "val", "train_aug"):
        _register(f"voc_2012_sem_seg_{split}", os.path.join(root, "VOC2012"), split, list(VOC_CLASSES))


def _register(name: str, root: str, split: str, classes: Sequence[str]) -> None:
    DatasetCatalog.register(name, lambda: load_sem_seg(name, match_voc_files(root, split)))
    set_metadata(name, dirname=root, split=split, stuff_classes=classes)


def _split_file(root: str, split: str) -> str:
    return os.path.join(root, "ImageSets", "Segmentation", f"{split}.txt")
