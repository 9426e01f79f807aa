"""Crops and flips of a batch of image tensors, on their device, each image with its own.

The boxes are those of :mod:`pixpro_d2.data.pretrain.views`; only the pixels are cut out in another way.
"""

import numpy as np
import torch

from .views import sample_view


def numpy_rng(generator=None):
    """numpy.random.Generator that continues a CPU torch.Generator (None: torch's global one).

    Decisions are drawn on the CPU, so that a seed gives the same views on every device and drawing them does not
    wait for a GPU.
    """
    return np.random.default_rng(torch.randint(2**62, (), generator=generator).item())


def sample_boxes(rng, count, image_size, **crop):
    """Draw a view for each of ``count`` images of one size.

    Args:
        rng (numpy.random.Generator): the only source of randomness.
        count (int): N.
        image_size (tuple[int, int]): (height, width) of the images in pixels.
        **crop: of :func:`pixpro_d2.data.pretrain.views.sample_view`.

    Returns:
        Tensor: (N, 4) float32 boxes in pixels on the CPU; x0 > x1 for a mirrored view.
    """
    height, width = image_size
    return torch.from_numpy(np.stack([sample_view(rng, width, height, **crop).box for _ in range(count)]))


def render_views(images, boxes, size):
    """Cut a box out of each image and resize it, bilinear with antialiasing, as PIL and torchvision do.

    Both axes are matrix products with one row of filter weights for each output pixel, because that is exact where
    sampling on a grid (``grid_sample``) skips pixels of a crop that is larger than the view.

    Args:
        images (Tensor): (N, C, H, W) float.
        boxes (Tensor): (N, 4) in pixels, inside the images, on their device; mirrored where x0 > x1.
        size (tuple[int, int]): (height, width) of the views.

    Returns:
        Tensor: (N, C, *size) float32, in the range of the images.
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


def _filter_weights(start, stop, length, size):
    """Weights (N, size, length) of the pixels of a line in the pixels of its resized part from ``start`` to ``stop``.

    A triangle around each output pixel's centre, as wide as the step between them but at least one pixel, cut
    off at the ends of the part, whose rows sum to 1; ``start`` > ``stop`` (N,) reads the part backwards.
    """
    pixels = torch.arange(length, device=start.device) + 0.5
    step = ((stop - start) / size)[:, None]
    centers = start[:, None] + step * (torch.arange(size, device=start.device) + 0.5)
    distance = (pixels - centers[:, :, None]).abs()
    weights = (1 - distance / step.abs().clamp(min=1)[:, :, None]).clamp(min=0)
    first, last = torch.minimum(start, stop)[:, None], torch.maximum(start, stop)[:, None]
    weights = weights * ((pixels > first) & (pixels < last))[:, None]
    return weights / weights.sum(dim=2, keepdim=True)
