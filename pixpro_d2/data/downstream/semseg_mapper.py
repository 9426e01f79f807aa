"""Map dataset dicts to images and label maps of semantic segmentation."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from detectron2.data import detection_utils
from detectron2.data import transforms as T

from ...utils.errors import UsageError
from ..datasets.semseg import IGNORE_LABEL, read_label
from ..io.reader import required_image


class SemSegMapper:
    """Read, augment and check an image with its labels.

    detectron2's DatasetMapper turns a palette PNG, such as Pascal VOC's, into grey values instead of class
    numbers. A label that is out of range fails only in a kernel. The augmentation is the same as in detectron2's
    DeepLab project: resize the shorter side, crop, flip.
    """

    @configurable
    def __init__(
        self,
        *,
        is_train: bool,
        augmentations: Sequence[T.Augmentation],
        image_format: str,
        num_classes: int,
        pixel_range: tuple[float, ...] = (),
    ) -> None:
        """
        Args:
            is_train: whether to read the labels.
            augmentations: augmentations of the image and its labels.
            image_format: ``RGB`` or ``BGR``.
            num_classes: number of classes; labels are 0 to ``num_classes`` - 1, or IGNORE_LABEL.
            pixel_range: see :func:`pixpro_d2.data.io.reader.read_image`.
        """
        self.is_train = is_train
        self.augmentations = T.AugmentationList(augmentations)
        self.image_format = image_format
        self.num_classes = num_classes
        self.pixel_range = pixel_range

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool) -> dict[str, Any]:
        augmentations = detection_utils.build_augmentation(cfg, is_train)
        crop = cfg.INPUT.CROP
        if is_train and crop.ENABLED:
            random_crop = T.RandomCrop_CategoryAreaConstraint(
                crop.TYPE, crop.SIZE, crop.SINGLE_CATEGORY_MAX_AREA, IGNORE_LABEL
            )
            augmentations.insert(1, random_crop)
        return {
            "is_train": is_train,
            "augmentations": augmentations,
            "image_format": cfg.INPUT.FORMAT,
            "num_classes": cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES,
            "pixel_range": tuple(cfg.INPUT.PIXEL_RANGE),
        }

    def __call__(self, dataset_dict: dict[str, Any]) -> dict[str, Any]:
        """Make a sample of a dataset dict.

        Args:
            dataset_dict: dict with ``file_name`` and, in training, ``sem_seg_file_name``.

        Returns:
            The entries of ``dataset_dict``, with ``image``, a uint8 tensor (3, h, w), and in training ``sem_seg``, an
            int64 tensor (h, w).

        Raises:
            UsageError: if a file is unreadable, the sizes differ, or a label is out of range.
        """
        sample = dict(dataset_dict)
        label_file = sample.pop("sem_seg_file_name", None)
        image = required_image(sample["file_name"], self.pixel_range)
        labels = self._read_labels(label_file, image.size) if self.is_train else None
        listed = sample.get("width", image.width), sample.get("height", image.height)
        if listed != image.size:  # a batch of test images would have several sizes
            raise UsageError(
                f"{sample['file_name']} is {image.width} x {image.height} pixels, but its data set or its label map "
                f"says {listed[0]} x {listed[1]}: make both sizes equal."
            )
        sample["width"], sample["height"] = image.size
        data = T.AugInput(detection_utils.convert_PIL_to_numpy(image, self.image_format), sem_seg=labels)
        self.augmentations(data)
        sample["image"] = torch.as_tensor(np.ascontiguousarray(data.image.transpose(2, 0, 1)))
        if self.is_train:
            sample["sem_seg"] = torch.as_tensor(data.sem_seg.astype(np.int64))
        return sample

    def _read_labels(self, path: str, size: tuple[int, int]) -> np.ndarray:
        labels = read_label(path, size)
        present = np.unique(labels)
        wrong = [int(x) for x in present if x != IGNORE_LABEL and not 0 <= x < self.num_classes]
        if wrong:
            raise UsageError(
                f"The label map {path} holds {wrong[0]}, but labels are 0 to {self.num_classes - 1} or "
                f"{IGNORE_LABEL} (ignored): set MODEL.SEM_SEG_HEAD.NUM_CLASSES or convert the labels."
            )
        return labels
