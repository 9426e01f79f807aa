"""Map dataset dicts to images and labels of classification."""

from collections.abc import Callable
from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from PIL import Image
from torchvision.transforms import v2

from ...utils.errors import UsageError
from ..io.reader import required_image
from ..pretrain.photometric import to_array


class ClassificationMapper:
    """Read an image and cut out the square that the classifier sees, as in every ImageNet recipe.

    In training, cut out a random crop, resize it and flip it at random. In testing, cut out the centre of the resized
    image. Randomness comes from PyTorch's global generator, which StreamDataset seeds for every sample.
    """

    @configurable
    def __init__(
        self,
        *,
        transform: Callable[[Image.Image], Image.Image],
        image_format: str,
        num_classes: int,
        pixel_range: tuple[float, ...] = (),
    ) -> None:
        """
        Args:
            transform: cuts the square out of an image.
            image_format: RGB, BGR or L.
            num_classes: number of classes; categories are 0 to ``num_classes`` - 1.
            pixel_range: see :func:`pixpro_d2.data.io.reader.read_image`.
        """
        self.transform = transform
        self.image_format = image_format
        self.num_classes = num_classes
        self.pixel_range = pixel_range

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool) -> dict[str, Any]:
        keys = cfg.INPUT.CLASSIFICATION
        if is_train:
            crop = v2.RandomResizedCrop(keys.CROP_SIZE, scale=(keys.MIN_SCALE, 1.0))
            transform = v2.Compose([crop, v2.RandomHorizontalFlip()])
        else:
            transform = v2.Compose([v2.Resize(keys.RESIZE), v2.CenterCrop(keys.CROP_SIZE)])
        return {
            "transform": transform,
            "image_format": cfg.INPUT.FORMAT,
            "num_classes": cfg.MODEL.CLASSIFIER.NUM_CLASSES,
            "pixel_range": tuple(cfg.INPUT.PIXEL_RANGE),
        }

    def __call__(self, dataset_dict: dict[str, Any]) -> dict[str, Any]:
        """Make a sample of a dataset dict.

        Args:
            dataset_dict: dict with ``file_name`` and ``category_id``.

        Returns:
            The entries of ``dataset_dict``, with ``image``, a uint8 tensor (C, CROP_SIZE, CROP_SIZE), and the
            ``height`` and ``width`` of the upright original in pixels.

        Raises:
            UsageError: if the file is unreadable, or the category is missing or out of range.
        """
        sample = dict(dataset_dict)
        self._check_category(sample)
        image = required_image(sample["file_name"], self.pixel_range)
        sample["width"], sample["height"] = image.size
        sample["image"] = torch.from_numpy(to_array(self.transform(image), self.image_format))
        return sample

    def _check_category(self, sample: dict[str, Any]) -> None:
        if "category_id" not in sample:
            raise UsageError(
                f"{sample['file_name']} has no category_id: classification needs a data set with a class for each "
                "image, such as classes:DIR."
            )
        if not 0 <= sample["category_id"] < self.num_classes:
            raise UsageError(
                f"{sample['file_name']} has category_id {sample['category_id']}, but classes are 0 to "
                f"{self.num_classes - 1}: set MODEL.CLASSIFIER.NUM_CLASSES to the number of classes."
            )
