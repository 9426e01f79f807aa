"""Images and boxes of detection."""

import copy

import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from detectron2.data import DatasetMapper, detection_utils
from detectron2.data import transforms as T

from ..datasets.semseg import read_label
from ..io.reader import required_image


class DetectionMapper(DatasetMapper):
    """detectron2's DatasetMapper with the image reader of all other tasks.

    detectron2's own reader clips images of 16 bits at 255, so that a detector would see other pictures than the
    pre-training of its backbone.
    """

    @configurable
    def __init__(self, is_train: bool, *, pixel_range: tuple = (), **options):
        """
        Args:
            is_train: whether to keep the annotations.
            pixel_range: as of :func:`pixpro_d2.data.io.reader.read_image`.
            **options: of detectron2's DatasetMapper.
        """
        super().__init__(is_train, **options)
        self.pixel_range = pixel_range

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool = True) -> dict:
        return {**super().from_config(cfg, is_train), "pixel_range": tuple(cfg.INPUT.PIXEL_RANGE)}

    def __call__(self, dataset_dict: dict) -> dict:
        """Return a sample as detectron2's DatasetMapper does; ``dataset_dict`` stays as it is.

        Raises:
            UsageError: for an unreadable file.
            SizeMismatchError: for an image of another size than ``dataset_dict`` states.
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
