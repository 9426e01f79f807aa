"""Operations of Pillow and torchvision on 8-bit RGB images, with the same results in a fraction of the time.

Images are uint8 arrays (3, H, W). The results equal those on a PIL image bit by bit, except for the blur. The blur
rounds sums in the middle between two levels differently: with a random radius, one value in 100 000 differs by 1.
"""

import functools
import math
from collections.abc import Sequence

import cv2
import numpy as np
from PIL import Image

_LEVELS = np.arange(256, dtype=np.float32)
_LUMA = np.array([19595, 38470, 7471], dtype=np.float32)  # ITU-R BT.601 in units of 2 ** -16
_BLUR_PASSES = 3
_ONE = 1 << 24  # the value 1 in Pillow's fixed-point weights


def luminance(image: np.ndarray) -> np.ndarray:
    """Return the luminance (H, W) uint8, as ``Image.convert("L")``."""
    # All sums are whole numbers below 2 ** 24, which float32 holds exactly.
    sums = np.tensordot(_LUMA, image.astype(np.float32), axes=1)
    sums += 1 << 15
    sums *= 2.0**-16
    return sums.astype(np.uint8)


def adjust_brightness(image: np.ndarray, factor: float) -> np.ndarray:
    """Compute torchvision's function of this name on a PIL image."""
    return _look_up(image, _blend(np.float32(0), _LEVELS, factor))


def adjust_contrast(image: np.ndarray, factor: float) -> np.ndarray:
    """Compute torchvision's function of this name on a PIL image."""
    mean = int(cv2.mean(luminance(image))[0] + 0.5)
    return _look_up(image, _blend(np.float32(mean), _LEVELS, factor))


def adjust_saturation(image: np.ndarray, factor: float) -> np.ndarray:
    """Compute torchvision's function of this name on a PIL image."""
    return _blend(luminance(image).astype(np.float32), image.astype(np.float32), factor)


def solarize(image: np.ndarray) -> np.ndarray:
    """Compute ``ImageOps.solarize`` with its default threshold."""
    return _look_up(image, np.where(_LEVELS < 128, _LEVELS, 255 - _LEVELS).astype(np.uint8))


def adjust_hue(image: np.ndarray, factor: float) -> np.ndarray:
    """Compute torchvision's function of this name on a PIL image, which turns the hue in Pillow's 8-bit HSV."""
    hues, saturations, shares = _hsv_tables()
    red, green, blue = image.astype(np.int32)
    value = image.max(axis=0)
    hue = hues.take((red - green) * 511 + (green - blue) + 255 * 512) + np.uint8(int(factor * 255) % 256)
    saturation = saturations.take(value.astype(np.uint16) * np.uint16(256) + image.min(axis=0))
    turned = shares.take(hue.astype(np.uint16) * np.uint16(256) + saturation, axis=1)
    turned *= value
    turned += 0.5
    return turned.astype(np.uint8)


def gaussian_blur(image: np.ndarray, radius: float) -> np.ndarray:
    """Compute ``ImageFilter.GaussianBlur(radius)``: three boxes with soft ends, in rows and then in columns."""
    kernel = _box(radius)
    planes: Sequence[np.ndarray] = list(image)
    for kernels in [kernel[None]] * _BLUR_PASSES + [kernel[:, None]] * _BLUR_PASSES:
        planes = [cv2.filter2D(plane, -1, kernels, borderType=cv2.BORDER_REPLICATE) for plane in planes]
    return np.stack(planes)


def _look_up(image: np.ndarray, table: np.ndarray) -> np.ndarray:
    return cv2.LUT(image.reshape(3, -1), table).reshape(image.shape)


def _blend(base: np.ndarray | np.float32, image: np.ndarray, factor: float) -> np.ndarray:
    """Compute ``Image.blend`` of float32 arrays of levels: away from ``base`` by ``factor``, rounded down to uint8."""
    blended = image - base
    blended *= np.float32(factor)
    blended += base
    return np.clip(blended, 0, 255, out=blended).astype(np.uint8)


@functools.cache
def _hsv_tables() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Compute Pillow's conversions between RGB and HSV as tables.

    Returns:
        uint8 hue by 511 * (red - green + 255) + (green - blue + 255), which determine the hue; uint8 saturation by
        256 * maximum + minimum; (3, 65536) float32 red, green and blue as shares of the value, by
        256 * hue + saturation.
    """
    red_green, green_blue = np.mgrid[-255:256, -255:256]
    colours = np.stack([red_green + green_blue, green_blue, np.zeros_like(green_blue)], axis=-1)
    colours -= colours.min(axis=-1, keepdims=True)  # colours with a level above 255 do not occur
    high, low = np.mgrid[:256, :256]
    hues = _to_hsv(colours.clip(max=255))[..., 0]
    saturations = _to_hsv(np.stack([high, low, low], axis=-1))[..., 1]

    sixths = _LEVELS * np.float32(6) / np.float32(255)
    sector = sixths.astype(int) % 6
    up = sixths % 1
    one, zero, down = np.ones_like(up), np.zeros_like(up), 1 - up
    # Share of the saturation that a colour lacks in red, for each sector of the hue circle. Green and blue are two and
    # four sectors behind.
    by_sector = (zero, up, one, one, down, zero)
    losses = np.stack([np.choose((sector - behind) % 6, by_sector) for behind in (0, 2, 4)])
    losses = losses[..., None] * (_LEVELS / np.float32(255))
    return hues.ravel(), saturations.ravel(), (1 - losses).reshape(3, -1)


def _to_hsv(colours: np.ndarray) -> np.ndarray:
    return np.asarray(Image.fromarray(colours.astype(np.uint8)).convert("HSV"))


def _box(radius: float) -> np.ndarray:
    """Return the weights, float32 (K,), of each box in Pillow's Gaussian of standard deviation ``radius``."""
    variance = radius * radius / _BLUR_PASSES
    whole = math.floor((math.sqrt(12 * variance + 1) - 1) / 2)
    part = (2 * whole + 1) * (whole * (whole + 1) - 3 * variance) / (6 * (variance - (whole + 1) ** 2))
    inner = int(_ONE / (2 * (whole + part) + 1))
    end = (_ONE - (2 * whole + 1) * inner) // 2
    return np.array([end, *[inner] * (2 * whole + 1), end], dtype=np.float32) / _ONE
