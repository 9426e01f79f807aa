"""The photometric part of views, for a batch of image tensors on their device, each image with its own recipe.

The policies of `pretrain.photometric` draw the recipes, so the distribution is the same. The results are those of
`photometric.apply` except for its rounding to 8 bits after every operation, and for its approximate Gaussian.
Images are (N, C, H, W) in [0, 1], RGB if C is 3. With another number of channels, operations on colours do nothing.
"""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from .colour_operations import LUMA
from .device_views import numpy_rng
from .photometric import Policy
from .recipe_batch import RecipeBatch, collate_recipes


class DevicePhotometric(nn.Module):
    """Draw a recipe for each image of a batch from a policy, and apply it."""

    def __init__(self, policy: Policy) -> None:
        """
        Args:
            policy: see :mod:`pixpro_d2.data.pretrain.photometric`.
        """
        super().__init__()
        self.policy = policy

    def forward(self, images: torch.Tensor, rng: np.random.Generator | None = None) -> torch.Tensor:
        """Augment each image of a batch.

        Args:
            images: (N, C, H, W) in [0, 1].
            rng: source of all randomness; by default a generator that continues torch's.

        Returns:
            (N, C, H, W) float32 in [0, 1].
        """
        rng = rng or numpy_rng()
        return apply_recipes(images, collate_recipes([self.policy.sample(rng) for _ in range(len(images))]))


@torch.no_grad()
def apply_recipes(images: torch.Tensor, recipes: RecipeBatch) -> torch.Tensor:
    """Apply the recipes of a batch, each to its image.

    The function never waits for the device: on a GPU the operations are only queued.

    Args:
        images: (N, C, H, W) in [0, 1].
        recipes: recipes of the N images, on any device.

    Returns:
        (N, C, H, W) float32 in [0, 1].
    """
    with torch.autocast(images.device.type, enabled=False):
        recipes = recipes.to(images.device)
        jitter = recipes.blends[..., None, None, None].unbind()
        hues = zip(recipes.hue_images.split(recipes.hue_counts), recipes.hue_turns.split(recipes.hue_counts))
        # A blend makes new images. Without a blend, operations on some of the images would write into the input.
        images = images.to(torch.float32, copy=not jitter)
        for shares, (turned, turns) in zip(jitter, hues):
            images = _blend(images, *shares)
            images = _update(images, turned, adjust_hue, turns)
        images = _update(images, recipes.grayed, _grayscale)
        images = _update(images, recipes.blurred, gaussian_blur, recipes.kernels)
        images = _update(images, recipes.solarized, _solarize)
    return images


def to_format(images: torch.Tensor, image_format: str) -> torch.Tensor:
    """Convert RGB images (N, 3, H, W) to (N, C, H, W) in ``image_format`` RGB, BGR or L."""
    if image_format == "L":
        return luminance(images)
    return images.flip(1) if image_format == "BGR" else images


def luminance(images: torch.Tensor) -> torch.Tensor:
    """Return the luminance (N, 1, H, W) of RGB images (N, 3, H, W)."""
    (red, *channels), (share, *shares) = images.split(1, dim=1), LUMA
    luma = share * red
    for channel, share in zip(channels, shares):
        luma.add_(channel, alpha=share)
    return luma


def _update(
    images: torch.Tensor,
    chosen: torch.Tensor,
    operation: Callable[..., torch.Tensor],
    *parameters: torch.Tensor,
) -> torch.Tensor:
    """Apply ``operation`` to ``images[chosen]``, with sorted indices ``chosen``, and return all images."""
    if len(chosen) == len(images):
        return operation(images, *parameters)
    if len(chosen):
        images.index_copy_(0, chosen, operation(images[chosen], *parameters))
    return images


def _blend(images: torch.Tensor, share: torch.Tensor, gray: torch.Tensor, mean: torch.Tensor) -> torch.Tensor:
    """Blend images with black (brightness), the mean grey (contrast) or their luminance (saturation).

    Args:
        images: (N, C, H, W).
        share: (N, 1, 1, 1), share of each image in the result.
        gray, mean: (N, 1, 1, 1), shares of the luminance and of its mean in the image to blend with.
    """
    luma = luminance(images) if images.shape[1] == 3 else images
    others = torch.addcmul(mean * luma.mean(dim=(1, 2, 3), keepdim=True), luma, gray)
    return torch.lerp(others, images, share).clamp_(0, 1)


def adjust_hue(images: torch.Tensor, factor: torch.Tensor) -> torch.Tensor:
    """Turn the hue of all pixels by ``factor`` (N,) of a full turn; keep value and saturation of HSV."""
    if images.shape[1] != 3:
        return images
    red, green, blue = images.unbind(1)
    value = images.amax(dim=1)
    chroma = value - images.amin(dim=1)
    sixth = chroma.clamp(min=1e-8).reciprocal_()  # grey pixels, of chroma 0, get a hue that has no effect
    hue = torch.where(value == green, (blue - red) * sixth + 2, (red - green) * sixth + 4)
    hue = torch.where(value == red, (green - blue) * sixth, hue)
    hue += 6 * factor.view(-1, 1, 1)  # in sixths of a turn
    # HSV to RGB in closed form: value - chroma * clamp(min(k, 4 - k), 0, 1), k = (offset + hue) mod 6.
    offsets = torch.arange(5, 0, -2, device=images.device)  # of red, green and blue
    k = (offsets.view(3, 1, 1) + hue[:, None]) % 6
    return torch.addcmul(value[:, None], chroma[:, None], torch.minimum(k, 4 - k).clamp_(0, 1), value=-1)


def gaussian_blur(images: torch.Tensor, kernels: torch.Tensor) -> torch.Tensor:
    """Blur each of (N, C, H, W) images by its row of ``kernels`` (N, K), K odd, in rows and in columns.

    The outermost pixels of the image continue beyond its edges, as in PIL.
    """
    n, channels = images.shape[:2]
    kernels = kernels.repeat_interleave(channels, dim=0)[:, None, None]  # (N * C, 1, 1, K)
    planes = F.pad(images, (kernels.shape[-1] // 2,) * 4, mode="replicate").flatten(0, 1)[None]
    planes = F.conv2d(planes, kernels, groups=n * channels)
    planes = F.conv2d(planes, kernels.transpose(2, 3), groups=n * channels)
    return planes.view_as(images)


def _grayscale(images: torch.Tensor) -> torch.Tensor:
    return luminance(images).repeat(1, 3, 1, 1) if images.shape[1] == 3 else images


def _solarize(images: torch.Tensor) -> torch.Tensor:
    # PIL inverts 8-bit values from 128 on; rounding gives 128 from 0.5 on.
    return torch.where(images >= 0.5, 1 - images, images)
