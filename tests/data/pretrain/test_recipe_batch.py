"""Recipes as tensors."""

import numpy as np
import torch

from pixpro_d2.data.pretrain.device_photometric import apply_recipes
from pixpro_d2.data.pretrain.photometric import POLICIES, Recipe
from pixpro_d2.data.pretrain.recipe_batch import collate_recipes, gaussian_kernels


def test_by_hand():
    recipes = [
        Recipe((("hue", 0.1), ("brightness", 1.5)), blur=1.0),
        Recipe(),
        Recipe((("contrast", 0.5), ("hue", -0.2)), grayscale=True),
        Recipe((("saturation", 2.0),), blur=0.5, solarize=True),
    ]
    batch = collate_recipes(recipes)
    # share of the image, of its luminance, of its mean luminance: by step, one row for each recipe
    first = [[1, 0, 0], [1, 0, 0], [0.5, 0, 1], [2, 1, 0]]
    second = [[1.5, 0, 0], [1, 0, 0], [1, 0, 0], [1, 0, 0]]
    assert batch.blends.transpose(1, 2).tolist() == [first, second]
    assert batch.hue_images.tolist() == [0, 2] and batch.hue_counts == (1, 1)
    torch.testing.assert_close(batch.hue_turns, torch.tensor([0.1, -0.2]))
    assert batch.grayed.tolist() == [2] and batch.blurred.tolist() == [0, 3]
    assert torch.equal(batch.kernels, gaussian_kernels([1.0, 0.5]))
    assert batch.solarized.tolist() == [3]


def test_nothing_to_do():
    batch = collate_recipes([Recipe()] * 3)
    assert batch.blends.shape == (0, 3, 3)
    for indices in (batch.hue_images, batch.grayed, batch.blurred, batch.solarized):
        assert indices.shape == (0,) and indices.dtype == torch.int64
    assert batch.hue_counts == () and len(batch.kernels) == 0


def test_gaussians():
    kernels = gaussian_kernels([0.1, 2.0])
    assert kernels.shape == (2, 13)  # three standard deviations of 2 to either side
    torch.testing.assert_close(kernels.sum(dim=1), torch.ones(2))
    assert torch.equal(kernels, kernels.flip(1))
    torch.testing.assert_close(kernels[1, 8] / kernels[1, 6], torch.tensor(-0.5).exp())  # one deviation away
    assert kernels[0, 6] > 0.999


def test_parts_of_a_batch_are_the_batches_of_its_parts():
    rng = np.random.default_rng(0)
    recipes = [POLICIES["byol"][i % 2].sample(rng) for i in range(12)]
    images = torch.from_numpy(rng.random((12, 3, 16, 16), dtype=np.float32))
    whole = apply_recipes(images, collate_recipes(recipes))
    parts = collate_recipes(recipes).in_parts(3)
    for name in ("hue_images", "grayed", "blurred", "solarized"):
        assert sum(len(getattr(part, name)) for part in parts) > 0
    apart = [apply_recipes(image, part) for image, part in zip(images.split(4), parts)]
    torch.testing.assert_close(torch.cat(apart), whole)
