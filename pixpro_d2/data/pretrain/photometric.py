"""The photometric part of a view: colour, blur and solarisation; pixels do not move.

The recipe of an image is drawn first (:meth:`Policy.sample`) and applied afterwards (:func:`apply`).
"""

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from PIL import Image

from . import colour_operations


@dataclass(frozen=True)
class Recipe:
    """Describe the photometric operations on an image.

    ``jitter`` is a sequence of (operation, factor) in the order of application, with the operations and
    factors of torchvision's ColorJitter. ``blur`` is the radius of a Gaussian in pixels of the view, or None.
    """

    jitter: tuple[tuple[str, float], ...] = ()
    grayscale: bool = False
    blur: float | None = None
    solarize: bool = False


@dataclass(frozen=True)
class Policy:
    """Hold the probabilities and strengths of the operations; the defaults do nothing.

    ``jitter`` holds the strengths of brightness, contrast, saturation and hue, as in torchvision's ColorJitter.
    """

    jitter: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    jitter_p: float = 0.0
    grayscale_p: float = 0.0
    blur_p: float = 0.0
    blur_radius: tuple[float, float] = (0.1, 2.0)
    solarize_p: float = 0.0

    def sample(self, rng: np.random.Generator) -> Recipe:
        """Draw a :class:`Recipe`."""
        jitter: tuple[tuple[str, float], ...] = ()
        if rng.random() < self.jitter_p:
            factors = [(name, rng.uniform(1 - s, 1 + s)) for name, s in zip(ENHANCE, self.jitter)]
            factors.append(("hue", rng.uniform(-self.jitter[3], self.jitter[3])))
            jitter = tuple(factors[i] for i in rng.permutation(len(factors)))
        grayscale = bool(rng.random() < self.grayscale_p)
        blur = rng.uniform(*self.blur_radius) if rng.random() < self.blur_p else None
        return Recipe(jitter, grayscale, blur, bool(rng.random() < self.solarize_p))


ENHANCE = ("brightness", "contrast", "saturation")
_OPERATIONS = {
    "brightness": colour_operations.adjust_brightness,
    "contrast": colour_operations.adjust_contrast,
    "saturation": colour_operations.adjust_saturation,
    "hue": colour_operations.adjust_hue,
}

_BYOL: dict[str, Any] = dict(jitter=(0.4, 0.4, 0.2, 0.1), jitter_p=0.8, grayscale_p=0.2)
_MOCO = Policy(jitter=(0.4, 0.4, 0.4, 0.1), jitter_p=0.8, grayscale_p=0.2, blur_p=0.5)
_SIMCLR = Policy(jitter=(0.8, 0.8, 0.8, 0.2), jitter_p=0.8, grayscale_p=0.2, blur_p=0.5)

# Policies of the first and second view, by the value of INPUT.PIXPRO.AUG.
POLICIES = {
    "byol": (Policy(**_BYOL, blur_p=1.0), Policy(**_BYOL, blur_p=0.1, solarize_p=0.2)),
    "mocov2": (_MOCO, _MOCO),
    "simclr": (_SIMCLR, _SIMCLR),
    "none": (Policy(), Policy()),
}


def apply(recipe: Recipe, image: np.ndarray) -> np.ndarray:
    """Apply a :class:`Recipe` to an RGB image (3, H, W) uint8, in the order of the official code.

    :mod:`pixpro_d2.data.pretrain.colour_operations` tells how far the results are from the official code's.
    """
    pixels = cv2.merge(list(image))
    for name, factor in recipe.jitter:
        pixels = _OPERATIONS[name](pixels, factor)
    if recipe.grayscale:
        pixels = colour_operations.to_grey(pixels)
    if recipe.blur is not None:
        pixels = colour_operations.gaussian_blur(pixels, recipe.blur)
    if recipe.solarize:
        pixels = colour_operations.solarize(pixels)
    return to_planes(pixels)


def to_planes(image: Image.Image | np.ndarray) -> np.ndarray:
    """Convert an RGB image, of PIL or (H, W, 3) uint8, to an array (3, H, W).

    Raises:
        ValueError: if the image has another shape or type.
    """
    pixels = np.asarray(image)
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.uint8:
        raise ValueError(f"An image has the shape {pixels.shape} and the type {pixels.dtype}, not (H, W, 3) and uint8.")
    planes = np.empty((3, *pixels.shape[:2]), dtype=np.uint8)
    cv2.split(pixels, list(planes))
    return planes


def to_format(image: np.ndarray, image_format: str) -> np.ndarray:
    """Convert an RGB image (3, H, W) uint8 to (C, H, W) in ``image_format`` RGB, BGR or L."""
    if image_format == "L":
        return colour_operations.luminance(cv2.merge(list(image)))[None]
    return np.ascontiguousarray(image[::-1]) if image_format == "BGR" else image


def to_array(image: Image.Image, image_format: str) -> np.ndarray:
    """Convert an RGB PIL image to a uint8 array (C, H, W) in ``image_format`` RGB, BGR or L."""
    return to_format(to_planes(image), image_format)
