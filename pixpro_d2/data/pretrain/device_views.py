"""Crop and flip a batch of image tensors on their device, each image with its own crop box.

The crop boxes are those of :mod:`pixpro_d2.data.pretrain.views`; only the resampling of pixels differs.
"""

from typing import Any

import numpy as np
import torch

from .views import sample_view


def numpy_rng(generator: torch.Generator | None = None) -> np.random.Generator:
    """Return a NumPy generator that continues a CPU torch.Generator (None: torch's global generator).

    Random decisions are drawn on the CPU. So a seed gives the same views on every device, and drawing does not wait
    for a GPU.
    """
    return np.random.default_rng(int(torch.randint(2**62, (), generator=generator, device="cpu").item()))


def sample_boxes(rng: np.random.Generator, count: int, image_size: tuple[int, int], **crop: Any) -> torch.Tensor:
    """Draw a view for each of ``count`` images of one size.

    Args:
        rng: the only source of randomness.
        count: number of images, N.
        image_size: (height, width) of the images in pixels.
        **crop: options of :func:`pixpro_d2.data.pretrain.views.sample_view`.

    Returns:
        (N, 4) float32 crop boxes in pixels on the CPU; x0 > x1 for a mirrored view.
    """
    height, width = image_size
    return torch.from_numpy(np.stack([sample_view(rng, width, height, **crop).box for _ in range(count)]))


def render_views(images: torch.Tensor, boxes: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Cut a crop box out of each image and resize it, bilinear with antialiasing, as PIL and torchvision do.

    Both axes are matrix products with a row of filter weights for each output pixel, which is exact. Sampling on a
    grid (``grid_sample``) would skip pixels of a crop that is larger than the view.

    Args:
        images: (N, C, H, W) float.
        boxes: (N, 4) in pixels, inside the images, on their device; mirrored if x0 > x1.
        size: (height, width) of the views in pixels.

    Returns:
        (N, C, *size) float32, in the range of the images.
    """
    n, channels, height, width = images.shape
    x0, y0, x1, y1 = boxes.float().unbind(1)
    with torch.autocast(images.device.type, enabled=False):
        across = _filter_weights(x0, x1, width, size[1])
        down = _filter_weights(y0, y1, height, size[0])
        rows = images.float().flatten(1, 2) @ across.transpose(1, 2)  # (N, C * H, size[1])
        columns = rows.unflatten(1, (channels, height)).transpose(1, 2).flatten(2)  # (N, H, C * size[1])
        views = (down @ columns).unflatten(2, (channels, size[1]))
    return views.transpose(1, 2).contiguous()


def _filter_weights(start: torch.Tensor, stop: torch.Tensor, length: int, size: int) -> torch.Tensor:
    """Return the weights (N, size, length) of the pixels of a line in its resized part from ``start`` to ``stop``.

    The weights are a triangle around the centre of each output pixel. Its half width is the step between the centres,
    but at least one pixel, and it is cut off at the ends of the part. Rows sum to 1. If ``start`` > ``stop`` (N,), the
    part is read backwards.
    """
    pixels = torch.arange(length, device=start.device) + 0.5
    step = ((stop - start) / size)[:, None]
    centers = start[:, None] + step * (torch.arange(size, device=start.device) + 0.5)
    distance = (pixels - centers[:, :, None]).abs()
    weights = (1 - distance / step.abs().clamp(min=1)[:, :, None]).clamp(min=0)
    first, last = torch.minimum(start, stop)[:, None], torch.maximum(start, stop)[:, None]
    weights = weights * ((pixels > first) & (pixels < last))[:, None]
    return weights / weights.sum(dim=2, keepdim=True)
