"""Make two views of an image in the usual way with Pillow and torchvision, as the yardstick of the input pipeline."""

import random

import torch
from PIL import Image, ImageFilter, ImageOps
from torchvision import transforms as T

from ...data.pretrain.photometric import Policy


class GaussianBlur:
    """Blur a PIL image by a radius drawn uniformly from a range."""

    def __init__(self, radius: tuple[float, float]) -> None:
        """
        Args:
            radius: range, in pixels.
        """
        self.radius = radius

    def __call__(self, image: Image.Image) -> Image.Image:
        return image.filter(ImageFilter.GaussianBlur(radius=random.uniform(*self.radius)))


class PlainTwoViews:
    """Turn the path of an image into uint8 tensors (2, 3, S, S), distributed as the views of TwoViewMapper."""

    def __init__(self, policies: tuple[Policy, Policy], crop_size: int, min_scale: float) -> None:
        """
        Args:
            policies: policies of the first and second view.
            crop_size: S, in pixels.
            min_scale: smallest crop area as a share of the image.
        """
        self.transforms = [_compose(policy, crop_size, min_scale) for policy in policies]

    def __call__(self, file_name: str) -> torch.Tensor:
        with open(file_name, "rb") as file:
            image = Image.open(file).convert("RGB")
        return torch.stack([transform(image) for transform in self.transforms])


def _compose(policy: Policy, crop_size: int, min_scale: float) -> T.Compose:
    return T.Compose(
        [
            T.RandomResizedCrop(crop_size, scale=(min_scale, 1.0)),
            T.RandomHorizontalFlip(),
            T.RandomApply([T.ColorJitter(*policy.jitter)], p=policy.jitter_p),
            T.RandomGrayscale(p=policy.grayscale_p),
            T.RandomApply([GaussianBlur(policy.blur_radius)], p=policy.blur_p),
            T.RandomApply([ImageOps.solarize], p=policy.solarize_p),
            T.PILToTensor(),
        ]
    )
