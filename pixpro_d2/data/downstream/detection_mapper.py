"""Map dataset dicts to images and boxes of detection."""

import copy
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from detectron2.data import DatasetMapper, detection_utils
from detectron2.data import transforms as T

from ..datasets.semseg import read_label
from ..io.reader import required_image


class DetectionMapper(DatasetMapper):
    """Extend detectron2's DatasetMapper by the image reader of all other tasks.

    detectron2's own reader clips images of 16 bits at 255, so a detector would see other images than the
    pre-training of its backbone.
    """

    @configurable
    def __init__(self, is_train: bool, *, pixel_range: tuple[float, ...] = (), **options: Any) -> None:
        """
        Args:
            is_train: whether to keep the annotations.
            pixel_range: see :func:`pixpro_d2.data.io.reader.read_image`.
            **options: options of detectron2's DatasetMapper.
        """
        super().__init__(is_train, **options)
        self.pixel_range = pixel_range

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool = True) -> dict[str, Any]:
        return {**super().from_config(cfg, is_train), "pixel_range": tuple(cfg.INPUT.PIXEL_RANGE)}

    def __call__(self, dataset_dict: dict[str, Any]) -> dict[str, Any]:
        """Return a sample as detectron2's DatasetMapper does; leave ``dataset_dict`` unchanged.

        Raises:
            UsageError: if the file is unreadable.
            SizeMismatchError: if the size of the image differs from the size in ``dataset_dict``.
        """
        sample = copy.deepcopy(dataset_dict)
        image = required_image(sample["file_name"], self.pixel_range)
        pixels = detection_utils.convert_PIL_to_numpy(image, self.image_format)
        detection_utils.check_image_size(sample, pixels)
        label_file = sample.pop("sem_seg_file_name", None)
        data = T.AugInput(pixels, sem_seg=None if label_file is None else read_label(label_file))
        transforms = self.augmentations(data)
        sample["image"] = torch.as_tensor(np.ascontiguousarray(data.image.transpose(2, 0, 1)))
        if data.sem_seg is not None:
            sample["sem_seg"] = torch.as_tensor(data.sem_seg.astype(np.int64))
        if not self.is_train:
            sample.pop("annotations", None)
        elif "annotations" in sample:
            self._transform_annotations(sample, transforms, data.image.shape[:2])
        return sample
