"""The geometric part of a view: its crop box in the image, and whether the view is mirrored.

A view is described before any pixel is read, so its geometry is exact by construction.
``box`` is in detectron2's continuous pixel coordinates of the original image.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

RATIO = (3 / 4, 4 / 3)  # range of width / height, as in every ImageNet recipe
ATTEMPTS = 10  # number of draws of a crop box
PAIR_ATTEMPTS = 20  # number of draws of a pair of crop boxes that must overlap
INTERPOLATIONS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}

Crop = tuple[int, int, int, int]  # left, top, width, height


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

    def render(self, image: Image.Image, size: int, shrink: int = 1, interpolation: str = "bilinear") -> np.ndarray:
        """Cut the view out of an RGB image and resize it to ``size`` x ``size`` pixels, by one of INTERPOLATIONS.

        The image may be ``shrink`` times smaller than the original image, whose pixels the view counts. PyTorch resizes
        an image of the original size, in half of Pillow's time. Pillow resizes a smaller image, where a box may start
        and end within a pixel. PyTorch has Pillow's weights, but may resize rows and columns in another order, with
        rounding in between. Bilinear values differ by 1 or 2 levels of 255 (in photographs 3 % of them), bicubic values
        of noise by up to 21.

        Returns:
            (3, size, size) uint8.
        """
        if shrink == 1:
            crop = image.crop((self.left, self.top, self.left + self.width, self.top + self.height))
            planes = torch.from_numpy(np.array(crop)).permute(2, 0, 1)[None]
            planes = F.interpolate(planes, (size, size), mode=interpolation, antialias=True)[0]
        else:
            x0, x1 = self.left / shrink, (self.left + self.width) / shrink
            y0, y1 = self.top / shrink, (self.top + self.height) / shrink
            left, top = int(x0), int(y0)
            crop = image.crop((left, top, math.ceil(x1), math.ceil(y1)))
            box = (x0 - left, y0 - top, x1 - left, y1 - top)
            crop = crop.resize((size, size), INTERPOLATIONS[interpolation], box=box)
            planes = torch.from_numpy(np.array(crop)).permute(2, 0, 1)
        return (planes.flip(-1) if self.flip else planes).contiguous().numpy()


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
    drawn = (crop for crop, _ in _draws(rng, width, height, min_scale, max_scale, ratio_range))
    crop = next(drawn, _central_crop(width, height, ratio_range))
    return View(*crop, flip=bool(rng.random() < flip_p))


def sample_second(
    rng: np.random.Generator,
    first: View,
    width: int,
    height: int,
    min_scale: float,
    max_scale: float,
    min_overlap: float,
) -> View:
    """Draw a view that has enough in common with the view ``first``, as SlotCon's code does.

    A draw counts if the common area is at least ``min_overlap`` of the drawn area, before the area is rounded to whole
    pixels. After ATTEMPTS draws the view is drawn by :func:`sample_view`, and may have nothing in common.
    """
    for crop, area in _draws(rng, width, height, min_scale, max_scale, RATIO):
        view = View(*crop, flip=False)
        if common_area(first, view) >= min_overlap * area:
            return replace(view, flip=bool(rng.random() < 0.5))
    return sample_view(rng, width, height, min_scale, max_scale)


def _draws(
    rng: np.random.Generator,
    width: int,
    height: int,
    min_scale: float,
    max_scale: float,
    ratio_range: tuple[float, float],
) -> Iterator[tuple[Crop, float]]:
    """Draw ATTEMPTS crops; yield those that fit into the image, with their areas before rounding."""
    for _ in range(ATTEMPTS):
        area = width * height * rng.uniform(min_scale, max_scale)
        ratio = math.exp(rng.uniform(math.log(ratio_range[0]), math.log(ratio_range[1])))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            yield (int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1)), w, h), area


def sample_pair(
    rng: np.random.Generator,
    width: int,
    height: int,
    min_scale: float,
    max_scale: float,
    min_overlap: float,
    redraw: str = "both",
) -> tuple[View, View]:
    """Draw two views by :func:`sample_view` until they overlap enough.

    Args:
        rng: the only source of randomness.
        width, height: size of the image in pixels.
        min_scale, max_scale: range of the area as a share of the image, in (0, 1].
        min_overlap: least :func:`overlap`, in [0, 1); with 0 the first pair is returned.
        redraw: ``both``, or ``second`` to draw the second view alone again, by :func:`sample_second` and its measure.

    Returns:
        The first pair that overlaps enough. If none of ``PAIR_ATTEMPTS`` pairs does, the pair that overlaps most; with
        ``second``, a pair that may not overlap.
    """
    if redraw == "second":
        first = sample_view(rng, width, height, min_scale, max_scale)
        return first, sample_second(rng, first, width, height, min_scale, max_scale, min_overlap)
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
    return common_area(first, second) / min(first.width * first.height, second.width * second.height)


def common_area(first: View, second: View) -> int:
    """Return the number of pixels of the image that both views show."""
    columns = min(first.left + first.width, second.left + second.width) - max(first.left, second.left)
    rows = min(first.top + first.height, second.top + second.height) - max(first.top, second.top)
    return max(columns, 0) * max(rows, 0)


def _central_crop(width: int, height: int, ratio_range: tuple[float, float]) -> Crop:
    ratio = width / height
    w, h = width, height
    if ratio < ratio_range[0]:
        h = round(width / ratio_range[0])
    elif ratio > ratio_range[1]:
        w = round(height * ratio_range[1])
    return (width - w) // 2, (height - h) // 2, w, h
