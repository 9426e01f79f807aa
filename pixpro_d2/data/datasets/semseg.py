"""``semseg:IMAGE_DIR@LABEL_DIR``: semantic segmentation with PNG files of class ids, and BDD100K."""

import logging
import os
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image, ImageFile

from ...utils.errors import UsageError
from ..io.reader import header_source
from .images import list_images
from .paths import check_exists, read_class_names, split_where

logger = logging.getLogger(__name__)

IGNORE_LABEL = 255  # label of pixels that are neither trained on nor evaluated


# detectron2's evaluator reads labels by Pillow too, so the ids cannot be divided again here alone.
_FEW_BITS = "{} is grey with 2 or 4 bits a pixel, whose class ids Pillow multiplies by 85 or 17: save it with 8 bits."


def _has_few_bits(image: ImageFile.ImageFile) -> bool:
    """Return whether an opened label file, not loaded yet, has grey pixels of 2 or 4 bits."""
    return any(tile[3] in ("L;2", "L;4") for tile in image.tile)


def read_label(path: str, size: tuple[int, int] | None = None) -> np.ndarray:
    """Read the class ids of a label file as a uint8 array (height, width).

    The ids are the stored numbers. In a palette PNG, such as Pascal VOC's, the colours are only for display.

    Args:
        path: label file.
        size: (width, height) of its image; None for any size.

    Raises:
        UsageError: if the file is unreadable, has another size, or does not hold a single id of 0 to 255 per pixel.
    """
    try:
        with Image.open(header_source(path)) as image:
            few_bits, mode, label = _has_few_bits(image), image.mode, np.asarray(image)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UsageError(f"{path} is not a readable label file: {error}.") from error
    if few_bits:
        raise UsageError(_FEW_BITS.format(path))
    if label.ndim != 2 or mode == "F" or label.min() < 0 or label.max() > 255:
        raise UsageError(f"{path} (mode {mode}) must be a PNG with one class id of 0 to 255 a pixel.")
    if size is not None and label.shape != size[::-1]:
        raise UsageError(
            f"The label map {path} must have its image's size {size[0]} x {size[1]}, but it is "
            f"{label.shape[1]} x {label.shape[0]}."
        )
    return label.astype(np.uint8)


def match_files(image_dir: str, label_dir: str) -> dict[str, tuple[str, str]]:
    """Pair images with labels by their paths below the two folders, without the extension.

    Returns:
        A sorted dict from the path below the folders to (image file, label file). Files without a partner are skipped,
        and their number is logged.

    Raises:
        UsageError: if there is no pair, or two files of a folder differ only by their extension.
    """
    images = _by_stem(image_dir, list_images(image_dir))
    labels = _by_stem(label_dir, [path for path in list_images(label_dir) if path.lower().endswith(".png")])
    pairs = {stem: (images[stem], labels[stem]) for stem in sorted(images.keys() & labels.keys())}
    if not pairs:
        raise UsageError(f"No image below {image_dir} has a PNG file of the same name below {label_dir}.")
    if len(images) > len(pairs) or len(labels) > len(pairs):
        logger.warning(
            f"{len(images) - len(pairs)} images below {image_dir} have no label in {label_dir} and "
            f"{len(labels) - len(pairs)} labels have no image: they are skipped."
        )
    return pairs


def _by_stem(folder: str, paths: Iterable[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for path in paths:
        stem = os.path.splitext(os.path.relpath(path, folder))[0]
        if stem in found:
            raise UsageError(f"{found[stem]} and {path} differ by their extension only: remove one of them.")
        found[stem] = path
    return found


def load_sem_seg(name: str, pairs: Mapping[str, tuple[str, str]]) -> list[dict[str, Any]]:
    """Load the dataset dicts of ``pairs`` (see :func:`match_files`).

    If the metadata of data set ``name`` has no classes, the classes become numbers, as many as the labels need.
    """
    dicts = []
    for stem, (image_file, label_file) in pairs.items():
        try:
            with Image.open(label_file) as image:  # reads the header only
                few_bits, (width, height) = _has_few_bits(image), image.size
        except (OSError, Image.DecompressionBombError) as error:
            raise UsageError(f"{label_file} is not a readable label file: {error}.") from error
        if few_bits:
            raise UsageError(_FEW_BITS.format(label_file))
        dicts.append(
            {
                "file_name": image_file,
                "image_id": stem,
                "height": height,
                "width": width,
                "sem_seg_file_name": label_file,
            }
        )
    metadata = MetadataCatalog.get(name)
    if metadata.get("stuff_classes", None) is None:  # set only by the first load, because scanning takes long
        metadata.set(stuff_classes=[str(i) for i in range(_count_classes(name, pairs))], classes_are_numbers=True)
    return dicts


def _count_classes(name: str, pairs: Mapping[str, tuple[str, str]]) -> int:
    logger.info(f"Data set '{name}' has no classes.txt: looking for the largest id in {len(pairs)} label files ...")
    largest = -1
    for _, label_file in pairs.values():
        ids = np.unique(read_label(label_file))
        largest = max(largest, *(int(i) for i in ids if i != IGNORE_LABEL), -1)
    if largest < 0:
        raise UsageError(f"Data set '{name}': all pixels of all labels are {IGNORE_LABEL}, which is ignored.")
    logger.info(
        f"Data set '{name}': {largest + 1} classes. A classes.txt beside the labels, one name a line, spares this "
        "scan and gives all splits the same classes."
    )
    return largest + 1


def add_absent_classes(name: str, number: int) -> None:
    """Give data set ``name``, whose classes were counted in its labels, ``number`` classes if it has fewer."""
    metadata = MetadataCatalog.get(name)
    if len(metadata.stuff_classes) < number:
        del metadata.stuff_classes  # detectron2 refuses another value for an attribute
        metadata.stuff_classes = [str(i) for i in range(number)]


def set_metadata(name: str, **further: Any) -> None:
    """Set the metadata of data set ``name`` that detectron2's SemSegEvaluator needs, except for the classes."""
    MetadataCatalog.get(name).set(evaluator_type="sem_seg", ignore_label=IGNORE_LABEL, **further)


def register_sem_seg(name: str, image_dir: str, label_dir: str) -> None:
    """Register a folder of images and a folder of labels as data set ``name``."""
    image_dir, label_dir = split_where(os.path.isdir, image_dir, label_dir)
    check_exists(name, image_dir, "image folder")
    check_exists(name, label_dir, "label folder")
    classes = read_class_names(label_dir)
    DatasetCatalog.register(name, lambda: load_sem_seg(name, match_files(image_dir, label_dir)))
    set_metadata(name, image_dir=image_dir, label_dir=label_dir, **({"stuff_classes": classes} if classes else {}))


def register_bdd100k(root: str) -> None:
    """Register ``bdd100k_sem_seg_train`` and ``_val``, with Cityscapes' 19 classes, below the folder ``root``."""
    classes = MetadataCatalog.get("cityscapes_fine_sem_seg_train").stuff_classes
    for split in ("train", "val"):
        name = f"bdd100k_sem_seg_{split}"
        folders = [os.path.join(root, "bdd100k", part, split) for part in ("images/10k", "labels/sem_seg/masks")]
        DatasetCatalog.register(name, lambda name=name, folders=folders: _load_folders(name, *folders))
        set_metadata(name, image_dir=folders[0], label_dir=folders[1], stuff_classes=list(classes))


def _load_folders(name: str, image_dir: str, label_dir: str) -> list[dict[str, Any]]:
    check_exists(name, image_dir, "image folder")
    check_exists(name, label_dir, "label folder")
    return load_sem_seg(name, match_files(image_dir, label_dir))
