"""The photometric part of views, for a batch of image tensors on their device, each image with its own recipe.

What happens to an image is drawn by the policies of :mod:`pixpro_d2.data.photometric`, so that the distribution is
theirs. What comes out is that of :func:`pixpro_d2.data.photometric.apply` up to the rounding to 8 bits that PIL
makes after every operation, and to PIL's Gaussian, which is approximate. Images are (N, C, H, W) in [0, 1], RGB
if C is 3; with another number of channels the operations on colours do nothing.
"""

import math
from functools import partial

import torch
import torch.nn.functional as F
from torch import nn

from .device_views import numpy_rng

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as PIL converts to grey


class DevicePhotometric(nn.Module):
    """Draw a recipe for each image of a batch from a policy, and apply it."""

    def __init__(self, policy):
        """
        Args:
            policy (Policy): see :mod:`pixpro_d2.data.photometric`.
        """
        super().__init__()
        self.policy = policy

    def forward(self, images, rng=None):
        """
        Args:
            images (Tensor): (N, C, H, W) in [0, 1].
            rng (numpy.random.Generator): source of all randomness; by default one that continues torch's.

        Returns:
            Tensor: (N, C, H, W) float32 in [0, 1].
        """
        rng = rng or numpy_rng()
        return apply([self.policy.sample(rng) for _ in range(len(images))], images)


@torch.no_grad()
def apply(recipes, images):
    """Apply a list of N recipes (:class:`pixpro_d2.data.photometric.Recipe`) to (N, C, H, W) images in [0, 1].

    Each operation runs on the images that have it, because most have few; which these are is known on the CPU, so
    nothing waits for the device.
    """
    with torch.autocast(images.device.type, enabled=False):
        images = images.float().clone()
        for step in range(max(len(recipe.jitter) for recipe in recipes)):
            jitter = {i: recipe.jitter[step] for i, recipe in enumerate(recipes) if step < len(recipe.jitter)}
            for name, operation in _JITTER.items():
                _update(images, {i: factor for i, (chosen, factor) in jitter.items() if chosen == name}, operation)
        _update(images, {i: 0.0 for i, recipe in enumerate(recipes) if recipe.grayscale}, adjust_saturation)
        sigmas = {i: recipe.blur for i, recipe in enumerate(recipes) if recipe.blur is not None}
        radius = math.ceil(3 * max(sigmas.values(), default=0))
        _update(images, sigmas, partial(gaussian_blur, radius=radius))
        _update(images, {i: 0.0 for i, recipe in enumerate(recipes) if recipe.solarize}, _solarize)
    return images


def _update(images, parameters, operation):
    """Replace the images that ``parameters``, index to number, names by ``operation(images, numbers)``."""
    if not parameters:
        return
    chosen = torch.tensor(list(parameters)).to(images.device, non_blocking=True)
    numbers = torch.tensor(list(parameters.values()), dtype=torch.float32).to(images.device, non_blocking=True)
    images.index_copy_(0, chosen, operation(images[chosen], numbers))


def _blend(images, others, share):
    share = share.view(-1, 1, 1, 1)
    return (share * images + (1 - share) * others).clamp(0, 1)


def _gray(images):
    """Luminance (N, 1, H, W) of RGB images; of others the mean of the channels."""
    if images.shape[1] != 3:
        return images.mean(dim=1, keepdim=True)
    return (images * _channels(LUMA, images)).sum(dim=1, keepdim=True)


def _channels(values, images):
    return torch.tensor(values).view(3, 1, 1).to(images.device, non_blocking=True)


def adjust_brightness(images, factor):
    """Multiply the images (N, C, H, W) by ``factor`` (N,)."""
    return _blend(images, 0, factor)


def adjust_contrast(images, factor):
    """Scale the distance of all pixels to the mean luminance of their image by ``factor`` (N,)."""
    return _blend(images, _gray(images).mean(dim=(2, 3), keepdim=True), factor)


def adjust_saturation(images, factor):
    """Scale the distance of all pixels to their luminance by ``factor`` (N,); 0 makes them grey."""
    return _blend(images, _gray(images), factor) if images.shape[1] == 3 else images


def adjust_hue(images, factor):
    """Turn the hue of all pixels by ``factor`` (N,) of a full turn; value and saturation of HSV stay."""
    if images.shape[1] != 3:
        return images
    red, green, blue = images.unbind(1)
    value = images.amax(dim=1)
    chroma = value - images.amin(dim=1)
    sixth = 1 / chroma.clamp(min=1e-8)  # grey pixels, of chroma 0, get a hue that has no effect
    hue = torch.where(value == green, (blue - red) * sixth + 2, (red - green) * sixth + 4)
    hue = torch.where(value == red, (green - blue) * sixth, hue)  # in sixths of a turn
    # HSV to RGB in closed form: value - chroma * clamp(min(k, 4 - k), 0, 1), k = (offset + hue) mod 6.
    offsets = _channels((5.0, 3.0, 1.0), images)
    k = (offsets + hue[:, None] + 6 * factor.view(-1, 1, 1, 1)) % 6
    return value[:, None] - chroma[:, None] * torch.minimum(k, 4 - k).clamp(0, 1)


def gaussian_blur(images, sigma, radius):
    """Gaussian of standard deviation ``sigma`` (N,) over (N, C, H, W), cut off at ``radius``, all in pixels.

    The image continues beyond its edges with its outermost pixels, as in PIL.
    """
    offsets = torch.arange(-radius, radius + 1, device=images.device)
    kernels = torch.softmax(-(offsets**2) / (2 * sigma[:, None] ** 2), dim=1)  # (N, K)
    n, channels = images.shape[:2]
    kernels = kernels.repeat_interleave(channels, dim=0)[:, None, None]  # (N * C, 1, 1, K)
    planes = F.pad(images, (radius,) * 4, mode="replicate").flatten(0, 1)[None]
    planes = F.conv2d(planes, kernels, groups=n * channels)
    planes = F.conv2d(planes, kernels.transpose(2, 3), groups=n * channels)
    return planes.view_as(images)


def _solarize(images, _):
    # PIL inverts 8-bit values from 128 on; 0.5 is where rounding gives 128.
    return torch.where(images >= 0.5, 1 - images, images)


_JITTER = {
    "brightness": adjust_brightness,
    "contrast": adjust_contrast,
    "saturation": adjust_saturation,
    "hue": adjust_hue,
}
