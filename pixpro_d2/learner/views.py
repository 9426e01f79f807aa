"""Two views of each image of a batch, cut and augmented on the images' device."""

import operator
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..data.pretrain.device_photometric import DevicePhotometric
from ..data.pretrain.device_views import numpy_rng, render_views, sample_boxes
from ..data.pretrain.photometric import POLICIES
from ..modeling.pretrain.correspondence import normalize_boxes
from ..utils.errors import UsageError, check_choice

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
GRAY_MEAN, GRAY_STD = 0.449, 0.226
SLACK = 0.25  # values this far outside [0, 1] come from a resampling, values farther from a mistake


class Normalize(nn.Module):
    """Compute (images - mean) / std, per channel."""

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        channels: int,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        option: str = "",
        any_range: bool = False,
    ) -> None:
        """
        Args:
            channels: channels of the images.
            mean, std: of images in [0, 1]. None is ImageNet's; for another number of channels than 3, the average of
                ImageNet's three values.
            option: what the names of the options ``mean`` and ``std`` start with, for messages.
            any_range: whether the images may have other values than those in [0, 1].
        """
        super().__init__()
        if mean is None:
            mean = IMAGENET_MEAN if channels == 3 else (GRAY_MEAN,) * channels
        if std is None:
            std = IMAGENET_STD if channels == 3 else (GRAY_STD,) * channels
        if not len(mean) == len(std) == channels:
            raise UsageError(
                f"{option}mean and {option}std have {len(mean)} and {len(std)} values for images of {channels} "
                "channels: give one for each channel."
            )
        if not all(value > 0 for value in std):
            raise UsageError(f"{option}std is {std}; it must be positive.")
        if not any_range and max(abs(value) for value in (*mean, *std)) > 1 + SLACK:
            raise UsageError(
                f"{option}mean is {mean} and {option}std {std}, but the images have values in [0, 1]: divide values "
                "for images of 8 bits by 255."
            )
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1), False)
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1), False)

    def forward(self, images: Tensor) -> Tensor:
        return (images - self.mean) / self.std


class TwoViews(nn.Module):
    """Draw two normalised views of each image (N, C, H, W) in [0, 1], with their boxes."""

    def __init__(
        self,
        in_channels: int,
        size: tuple[int, int],
        augment: str | Sequence[Callable[[Tensor], Tensor]],
        mean: Sequence[float] | None,
        std: Sequence[float] | None,
        crop: dict[str, Any],
        distance_units: str,
    ) -> None:
        """
        Args:
            in_channels: C.
            size: (height, width) of the views in pixels.
            augment: photometric augmentation; name of a pair in `photometric.POLICIES`, or two
                callables, images (N, C, *size) in [0, 1] to the same, that move no pixel.
            mean, std: as in :class:`Normalize`.
            crop: arguments of :func:`pixpro_d2.data.pretrain.views.sample_view`.
            distance_units: ``normalized`` or ``pixel``, unit of the boxes.
        """
        super().__init__()
        check_choice("distance_units", distance_units, ("normalized", "pixel"))
        if not 0 < crop["min_scale"] <= crop["max_scale"] <= 1:
            raise UsageError(
                f"min_scale is {crop['min_scale']} and max_scale {crop['max_scale']}; they must be in (0, 1], the "
                "second at least the first."
            )
        if not 0 < crop["ratio_range"][0] <= crop["ratio_range"][1]:
            raise UsageError(
                f"ratio_range is {crop['ratio_range']}; it must be two positive numbers, the second at least the first."
            )
        if not 0 <= crop["flip_p"] <= 1:
            raise UsageError(f"flip_p is {crop['flip_p']}; it must be between 0 and 1.")
        self.in_channels = in_channels
        self.size = size
        self.crop = crop
        self.distance_units = distance_units
        self.augment1, self.augment2 = _augmentations(augment)
        # Without colour operations, images of other values can have a mean and a deviation of their own.
        has_colours = isinstance(augment, str) and augment != "none"
        self.any_range = not has_colours and (mean is not None or std is not None)
        self.normalize = Normalize(in_channels, mean, std, any_range=self.any_range)
        self._seen = self.any_range

    # A compiled graph would be useless: each call augments another subset of the images.
    @torch.compiler.disable
    @torch.no_grad()
    def forward(self, images: Tensor, generator: torch.Generator | None = None) -> tuple[list[Tensor], list[Tensor]]:
        """Draw the views.

        Args:
            images: (N, C, H, W) float in [0, 1].
            generator: on the CPU, source of all randomness; torch's global generator by default.

        Returns:
            Two views (N, C, *size), and their two boxes (N, 4), as from
            :func:`pixpro_d2.modeling.pretrain.correspondence.normalize_boxes`.
        """
        self._check(images)
        rng = numpy_rng(generator)
        height, width = images.shape[-2:]
        image_sizes = torch.tensor([(height, width)], device="cpu")  # also where another device is the default
        views, boxes = [], []
        for augment in (self.augment1, self.augment2):
            box = sample_boxes(rng, len(images), (height, width), **self.crop)
            view = render_views(images, box.to(images.device, non_blocking=True), self.size)
            view = augment(view, rng) if isinstance(augment, DevicePhotometric) else augment(view)
            views.append(self.normalize(view))
            boxes.append(normalize_boxes(box, image_sizes, self.distance_units).to(images.device, non_blocking=True))
        return views, boxes

    def _check(self, images: Tensor) -> None:
        if images.dim() != 4 or images.shape[1] != self.in_channels or not images.is_floating_point():
            raise UsageError(
                f"The learner was given images of shape {tuple(images.shape)} and type {images.dtype}: it takes float "
                f"images (N, {self.in_channels}, H, W) with values in [0, 1]."
            )
        if not self._seen:  # until a first batch is right, because it waits for the device
            low, high = (value.item() for value in images.aminmax())
            if not (low >= -SLACK and high <= 1 + SLACK):  # NaN neither
                raise UsageError(
                    f"The learner was given images with values from {low:.4g} to {high:.4g}: it takes values in "
                    "[0, 1], before any normalisation, so divide images of 8 bits by 255."
                )
            self._seen = True


def view_size(image_size: Any) -> tuple[int, int]:
    """Return the (height, width) that the option ``image_size``, a side or a pair of sides, stands for."""
    sides = image_size if hasattr(image_size, "__len__") else (image_size, image_size)
    try:
        height, width = map(operator.index, sides)
    except (TypeError, ValueError):
        height = width = 0
    if min(height, width) < 1:
        raise UsageError(
            f"image_size is {image_size}; it must be a positive integer or a pair (height, width) of them."
        )
    return height, width


def _augmentations(augment: Any) -> Sequence[Callable[..., Tensor]]:
    if isinstance(augment, str):
        check_choice("augment", augment, POLICIES)
        return [DevicePhotometric(policy) for policy in POLICIES[augment]]
    if not isinstance(augment, (tuple, list)) or len(augment) != 2 or not all(map(callable, augment)):
        raise UsageError(f"augment is {augment}; it must be a pair of callables or one of {', '.join(POLICIES)}.")
    return augment
