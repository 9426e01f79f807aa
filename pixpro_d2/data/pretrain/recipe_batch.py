"""The recipes of a batch as tensors, so that a device applies them to all images at once.

The selection of images for each operation is computed here on the CPU, so the host never waits for the device.
"""

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .photometric import Recipe

CUTOFF = 3  # half width of a Gaussian in standard deviations


class RecipeBatch(NamedTuple):
    """Hold the recipes of N images as operations on all images, in the order of the fields.

    ``blends`` (steps, 3, N) float32 has three shares for each step of the jitter and each image. The first is the
    share of the image itself in the blend. The others define the image to blend with: the shares of the luminance and
    of the mean luminance. If both are 0, this image is black.

    After blending, each step of the jitter turns the hues of some images. ``hue_images`` int64 are the indices of the
    images, and ``hue_turns`` float32 the shares of a full turn, for all steps in a row. ``hue_counts`` are the numbers
    of images per step.

    ``grayed``, ``blurred`` and ``solarized`` are indices of images. ``kernels`` (B, K) float32 are the Gaussians of
    the blurred images. All indices are sorted, indices for hues within each step.
    """

    blends: Tensor
    hue_images: Tensor
    hue_turns: Tensor
    hue_counts: tuple[int, ...]
    grayed: Tensor
    blurred: Tensor
    kernels: Tensor
    solarized: Tensor

    def to(self, device: torch.device | str) -> "RecipeBatch":
        """Copy the recipes to a device without waiting for the device."""
        return RecipeBatch._make(x.to(device, non_blocking=True) if isinstance(x, Tensor) else x for x in self)

    def in_parts(self, parts: int) -> list["RecipeBatch"]:
        """Split the recipes into ``parts`` batches of equally many consecutive images; only on the CPU."""
        size = self.blends.shape[2] // parts
        return [self._between(i * size, (i + 1) * size) for i in range(parts)]

    def _between(self, start: int, stop: int) -> "RecipeBatch":
        turned, grayed, blurred, solarized = (
            (images >= start) & (images < stop)
            for images in (self.hue_images, self.grayed, self.blurred, self.solarized)
        )
        return RecipeBatch(
            blends=self.blends[:, :, start:stop],
            hue_images=self.hue_images[turned] - start,
            hue_turns=self.hue_turns[turned],
            hue_counts=tuple(int(step.sum()) for step in turned.split(self.hue_counts)),
            grayed=self.grayed[grayed] - start,
            blurred=self.blurred[blurred] - start,
            kernels=self.kernels[blurred],
            solarized=self.solarized[solarized] - start,
        )


def collate_recipes(recipes: Sequence[Recipe]) -> RecipeBatch:
    """Join N recipes into a :class:`RecipeBatch`."""
    steps = max(len(recipe.jitter) for recipe in recipes)
    blends = np.zeros((steps, 3, len(recipes)), dtype=np.float32)
    blends[:, 0] = 1
    hues: list[list[tuple[int, float]]] = [[] for _ in range(steps)]  # (image, turn) of each step
    for i, recipe in enumerate(recipes):
        for step, (name, factor) in enumerate(recipe.jitter):
            if name == "hue":
                hues[step].append((i, factor))
            else:
                blends[step, :, i] = factor, name == "saturation", name == "contrast"
    turned = [hue for step in hues for hue in step]
    return RecipeBatch(
        blends=torch.from_numpy(blends),
        hue_images=torch.tensor([i for i, _ in turned], dtype=torch.int64),
        hue_turns=torch.tensor([turn for _, turn in turned], dtype=torch.float32),
        hue_counts=tuple(map(len, hues)),
        grayed=_indices(recipe.grayscale for recipe in recipes),
        blurred=_indices(recipe.blur is not None for recipe in recipes),
        kernels=gaussian_kernels([recipe.blur for recipe in recipes if recipe.blur is not None]),
        solarized=_indices(recipe.solarize for recipe in recipes),
    )


def _indices(flags: Iterable[bool]) -> Tensor:
    return torch.tensor([i for i, flag in enumerate(flags) if flag], dtype=torch.int64)


def gaussian_kernels(sigmas: Sequence[float]) -> Tensor:
    """Return (B, K) float32 Gaussians of standard deviations ``sigmas`` in pixels; the largest decides the width K."""
    radius = math.ceil(CUTOFF * max(sigmas, default=0))
    offsets = torch.arange(-radius, radius + 1)
    deviations = torch.tensor(sigmas, dtype=torch.float32).view(-1, 1)
    return torch.softmax(-(offsets**2) / (2 * deviations**2), dim=1)
