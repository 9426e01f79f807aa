"""The recipes of a batch as tensors, so that a device applies them to all images at once.

Everything that depends on which images have an operation is known here, on the CPU: the device is never waited for.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

CUTOFF = 3  # a Gaussian ends so many standard deviations from its middle


class RecipeBatch(NamedTuple):
    """Recipes of N images, as operations on all of them in the order of the fields.

    ``blends`` (steps, 3, N) float32 are of the steps of the jitter. They hold the share of the image itself, and of
    which image it is blended with: of its luminance, and of the mean of that (neither is black). After blending, each
    step of the jitter turns the hues of some images: ``hue_images`` int64 are their indices and ``hue_turns`` float32
    shares of a full turn, of all steps in a row; ``hue_counts`` of each.

    ``grayed``, ``blurred`` and ``solarized`` are indices of images, ``kernels`` (B, K) float32 the Gaussians of those
    that are blurred. All indices are sorted, those of the hues in each step.
    """

    blends: Tensor
    hue_images: Tensor
    hue_turns: Tensor
    hue_counts: tuple
    grayed: Tensor
    blurred: Tensor
    kernels: Tensor
    solarized: Tensor

    def to(self, device):
        """The same on a device, copied without waiting for it."""
        return RecipeBatch(*(x.to(device, non_blocking=True) if isinstance(x, Tensor) else x for x in self))

    def in_parts(self, parts):
        """``parts`` batches of equally many consecutive images each; only on the CPU, where it waits for nothing."""
        size = self.blends.shape[2] // parts
        return [self._between(i * size, (i + 1) * size) for i in range(parts)]

    def _between(self, start, stop):
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


def collate_recipes(recipes):
    """Join N :class:`pixpro_d2.data.pretrain.photometric.Recipe` into a :class:`RecipeBatch`."""
    steps = max(len(recipe.jitter) for recipe in recipes)
    blends = np.zeros((steps, 3, len(recipes)), dtype=np.float32)
    blends[:, 0] = 1
    hues = [[] for _ in range(steps)]  # (image, turn) of each step
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


def _indices(flags):
    return torch.tensor([i for i, flag in enumerate(flags) if flag], dtype=torch.int64)


def gaussian_kernels(sigmas):
    """(B, K) float32 Gaussians of the standard deviations ``sigmas``, in pixels, all as wide as the widest needs."""
    radius = math.ceil(CUTOFF * max(sigmas, default=0))
    offsets = torch.arange(-radius, radius + 1)
    sigmas = torch.tensor(sigmas, dtype=torch.float32).view(-1, 1)
    return torch.softmax(-(offsets**2) / (2 * sigmas**2), dim=1)
