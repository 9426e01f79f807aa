"""The operations of a photometric recipe on 8-bit images, by OpenCV in a fifth of Pillow's time.

Images are RGB arrays (H, W, 3) uint8; each function returns a new image. The official code uses Pillow and torchvision.
Solarisation equals its result. Brightness and contrast differ by 1 of 255 levels in one of 10 000 values. Grey and
saturation differ by at most 1 level, the blur by at most 3. Both sides turn the hue in an HSV of 8 bits, but round it
in other ways: in photographs, 99 % of the values differ by at most 3 levels.
"""

import math

import cv2
import numpy as np

LUMA = (0.299, 0.587, 0.114)  # weights of red, green and blue in ITU-R BT.601
_OPENCVS_ONE = 1 << 10  # the value 1 in OpenCV's fixed-point weights of a transform
_ROUND_DOWN = -0.4999  # added before OpenCV rounds to the nearest level; whole levels stay
_INVERTED = np.array([*range(128), *range(127, -1, -1)], dtype=np.uint8)
_BLUR_PASSES = 3
_ONE = 1 << 24  # the value 1 in Pillow's fixed-point weights


def luminance(image: np.ndarray) -> np.ndarray:
    """Return the luminance (H, W) uint8 by the weights of ITU-R BT.601."""
    return cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)


def to_grey(image: np.ndarray) -> np.ndarray:
    """Return the luminance in all three channels."""
    return cv2.cvtColor(luminance(image), cv2.COLOR_GRAY2RGB)


def adjust_brightness(image: np.ndarray, factor: float) -> np.ndarray:
    """Multiply all levels by ``factor`` >= 0, rounded down."""
    return cv2.convertScaleAbs(image, alpha=factor, beta=_ROUND_DOWN)


def adjust_contrast(image: np.ndarray, factor: float) -> np.ndarray:
    """Move all levels away from the mean luminance by ``factor`` >= 0, rounded down."""
    mean = int(cv2.mean(luminance(image))[0] + 0.5)
    return cv2.addWeighted(image, factor, image, 0, (1 - factor) * mean + _ROUND_DOWN)


def adjust_saturation(image: np.ndarray, factor: float) -> np.ndarray:
    """Move all levels away from the pixel's luminance by ``factor`` >= 0, rounded down."""
    mixture = np.rint(_OPENCVS_ONE * (factor * np.eye(3) + (1 - factor) * np.array(LUMA)))
    mixture[np.diag_indices(3)] += _OPENCVS_ONE - mixture.sum(axis=1)  # so that greys stay as they are
    return cv2.transform(image, np.column_stack([mixture / _OPENCVS_ONE, [_ROUND_DOWN] * 3]))


def adjust_hue(image: np.ndarray, factor: float) -> np.ndarray:
    """Turn the hue by ``factor`` in [-0.5, 0.5] of a full turn, in steps of 1 / 256."""
    hsv = cv2.cvtColor(image, cv2.COLOR_RGB2HSV_FULL)
    turn = np.zeros((image.shape[1], 3), dtype=np.uint8)
    turn[:, 0] = int(factor * 255) % 256
    hsv.reshape(len(hsv), -1)[:] += turn.ravel()  # an addition to all bytes is faster than to every third byte
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB_FULL)


def gaussian_blur(image: np.ndarray, radius: float) -> np.ndarray:
    """Compute ``ImageFilter.GaussianBlur(radius)``: three boxes with soft ends.

    Pillow blurs rows three times and then columns three times, and rounds six times. Here each box takes both, and
    rounds once.
    """
    kernel = _box(radius)
    for _ in range(_BLUR_PASSES):
        image = cv2.sepFilter2D(image, -1, kernel, kernel, borderType=cv2.BORDER_REPLICATE)
    return image


def solarize(image: np.ndarray) -> np.ndarray:
    """Invert all levels from 128 on."""
    return cv2.LUT(image, _INVERTED)


def _box(radius: float) -> np.ndarray:
    """Return the weights, float32 (K,), of each box in Pillow's Gaussian of standard deviation ``radius``."""
    variance = radius * radius / _BLUR_PASSES
    whole = math.floor((math.sqrt(12 * variance + 1) - 1) / 2)
    part = (2 * whole + 1) * (whole * (whole + 1) - 3 * variance) / (6 * (variance - (whole + 1) ** 2))
    inner = int(_ONE / (2 * (whole + part) + 1))
    end = (_ONE - (2 * whole + 1) * inner) // 2
    return np.array([end, *[inner] * (2 * whole + 1), end], dtype=np.float32) / _ONE
