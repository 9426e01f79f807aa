"""The geometric part of a view: its crop box in the image, and whether the view is mirrored.

A view is described before any pixel is read, so its geometry is exact by construction.
``box`` is in detectron2's continuous pixel coordinates of the original image.
"""

import math
from dataclasses import dataclass

import numpy as np
from PIL import Image

RATIO = (3 / 4, 4 / 3)  # range of width / height, as in every ImageNet recipe
ATTEMPTS = 10  # number of draws of a crop box
PAIR_ATTEMPTS = 20  # number of draws of a pair of crop boxes that must overlap


@dataclass(frozen=True)
class View:
    """Describe a crop of ``width`` x ``height`` pixels at column ``left`` and row ``top``, mirrored if ``flip``."""

    left: int
    top: int
    width: int
    height: int
    flip: bool

    @property
    def box(self) -> np.ndarray:
        """Return the crop box (x0, y0, x1, y1) in pixels, (4,) float32; x0 > x1 for a mirrored view."""
        x0, x1 = self.left, self.left + self.width
        if self.flip:
            x0, x1 = x1, x0
        return np.array([x0, self.top, x1, self.top + self.height], dtype=np.float32)

    def render(self, image: Image.Image, size: int, shrink: int = 1) -> Image.Image:
        """Cut the view out of a PIL image and resize it to ``size`` x ``size`` pixels, bilinear.

        The image may be ``shrink`` times smaller than the original image, whose pixels the view counts.
        """
        x0, x1 = self.left / shrink, (self.left + self.width) / shrink
        y0, y1 = self.top / shrink, (self.top + self.height) / shrink
        left, top = int(x0), int(y0)
        crop = image.crop((left, top, math.ceil(x1), math.ceil(y1)))
        box = (x0 - left, y0 - top, x1 - left, y1 - top)
        crop = crop.resize((size, size), Image.Resampling.BILINEAR, box=box)
        return crop.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if self.flip else crop


def sample_view(
    rng: np.random.Generator,
    width: int,
    height: int,
    min_scale: float,
    max_scale: float = 1.0,
    ratio_range: tuple[float, float] = RATIO,
    flip_p: float = 0.5,
) -> View:
    """Draw a view as torchvision's RandomResizedCrop and RandomHorizontalFlip do.

    The area is uniform in [min_scale, max_scale] of the image, and the aspect ratio log-uniform in ``ratio_range``.
    After ATTEMPTS draws that do not fit, the result is the largest central crop with a ratio in range.

    Args:
        rng: the only source of randomness.
        width, height: size of the image in pixels.
        min_scale, max_scale: range of the area as a share of the image, in (0, 1].
        ratio_range: range of width / height.
        flip_p: probability of a mirrored view.
    """
    crop = _central_crop(width, height, ratio_range)
    for _ in range(ATTEMPTS):
        area = width * height * rng.uniform(min_scale, max_scale)
        ratio = math.exp(rng.uniform(math.log(ratio_range[0]), math.log(ratio_range[1])))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            crop = (int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1)), w, h)
            break
    return View(*crop, flip=bool(rng.random() < flip_p))


def sample_pair(
    rng: np.random.Generator, width: int, height: int, min_scale: float, max_scale: float, min_overlap: float
) -> tuple[View, View]:
    """Draw two views by :func:`sample_view` until they overlap enough.

    Args:
        rng: the only source of randomness.
        width, height: size of the image in pixels.
        min_scale, max_scale: range of the area as a share of the image, in (0, 1].
        min_overlap: least :func:`overlap`, in [0, 1); with 0 the first pair is returned.

    Returns:
        The first pair that overlaps enough. If none of ``PAIR_ATTEMPTS`` pairs does, the pair that overlaps most.
    """
    best, largest = None, -1.0
    for _ in range(PAIR_ATTEMPTS):
        first, second = (sample_view(rng, width, height, min_scale, max_scale) for _ in range(2))
        share = overlap(first, second) if min_overlap > 0 else 0.0
        if share > largest:
            best, largest = (first, second), share
        if share >= min_overlap:
            break
    assert best is not None  # any share is larger than -1
    return best


def overlap(first: View, second: View) -> float:
    """Return the common area of two views of one image as a share of the smaller view, in [0, 1]."""
    columns = min(first.left + first.width, second.left + second.width) - max(first.left, second.left)
    rows = min(first.top + first.height, second.top + second.height) - max(first.top, second.top)
    smaller = min(first.width * first.height, second.width * second.height)
    return max(columns, 0) * max(rows, 0) / smaller


def _central_crop(width: int, height: int, ratio_range: tuple[float, float]) -> tuple[int, int, int, int]:
    ratio = width / height
    w, h = width, height
    if ratio < ratio_range[0]:
        h = round(width / ratio_range[0])
    elif ratio > ratio_range[1]:
        w = round(height * ratio_range[1])
    return (width - w) // 2, (height - h) // 2, w, h
