"""Two views of an image as everybody writes them with Pillow and torchvision: the yardstick of the input pipeline."""

import random

import torch
from PIL import Image, ImageFilter, ImageOps
from torchvision import transforms as T


class GaussianBlur:
    """Blur a PIL image by a radius drawn uniformly from a range."""

    def __init__(self, radius):
        """
        Args:
            radius (tuple[float, float]): range, in pixels.
        """
        self.radius = radius

    def __call__(self, image):
        return image.filter(ImageFilter.GaussianBlur(radius=random.uniform(*self.radius)))


class PlainTwoViews:
    """Path of an image to two uint8 tensors (3, S, S), distributed as the views of TwoViewMapper."""

    def __init__(self, policies, crop_size, min_scale):
        """
        Args:
            policies (tuple[Policy, Policy]): of the first and second view.
            crop_size (int): S, in pixels.
            min_scale (float): smallest crop area as a share of the image.
        """
        self.transforms = [_compose(policy, crop_size, min_scale) for policy in policies]

    def __call__(self, file_name):
        with open(file_name, "rb") as file:
            image = Image.open(file).convert("RGB")
        return torch.stack([transform(image) for transform in self.transforms])


def _compose(policy, crop_size, min_scale):
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
