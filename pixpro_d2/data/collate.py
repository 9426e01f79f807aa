"""Joining samples of :class:`pixpro_d2.data.mapper.TwoViewMapper` into one batch."""

import numpy as np
import torch

from .recipe_batch import collate_recipes


def collate_views(samples):
    """Stack samples into a batch; done in the loader's workers, so that the training process copies tensors only.

    Returns:
        dict: for N samples

        * views: (N, 2, C, S, S) uint8 tensor;
        * boxes: (N, 2, 4) float32, signed crop boxes in pixels of the original images;
        * image_sizes: (N, 2) float32, (height, width) of the originals;
        * file_names: list[str];
        * recipes: the two RecipeBatch of the first and second views, where the samples leave them to the model.
    """
    batch = {
        "views": torch.from_numpy(np.stack([sample["views"] for sample in samples])),
        "boxes": torch.from_numpy(np.stack([sample["boxes"] for sample in samples])),
        "image_sizes": torch.tensor([sample["image_size"] for sample in samples], dtype=torch.float32),
        "file_names": [sample["file_name"] for sample in samples],
    }
    if "recipes" in samples[0]:
        batch["recipes"] = tuple(collate_recipes(view) for view in zip(*(sample["recipes"] for sample in samples)))
    return batch
