"""Join samples of :class:`~.mapper.TwoViewMapper` or :class:`~.video_mapper.VideoMapper` into one batch."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from .recipe_batch import collate_recipes


def collate(samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Stack samples into a batch, in the loader's workers, so that the training process copies only tensors.

    Arrays whose size depends on the frames are padded at the bottom and right by edge values to the largest size in
    the batch.

    Returns:
        For N samples

        * views: (N, 2, C, S, S) uint8 tensor;
        * boxes: (N, 2, 4) float32, signed crop boxes in pixels of the original images;
        * image_sizes: (N, 2) float32, (height, width) of the original images;
        * file_names: list of str;
        * recipes: the two RecipeBatch of the first and second views, if the samples have recipes for the model;
        * flow_there, flow_back: (N, steps, 2, h, w) float16, if the samples have flow;
        * flow_sizes: (N, 2) int64, (height, width) of each sample's own flow;
        * frames: (N, num_frames, 3, H, W) uint8, if the samples have frames; ``image_sizes`` has their own sizes.
    """
    batch = {
        "views": torch.from_numpy(np.stack([sample["views"] for sample in samples])),
        "boxes": torch.from_numpy(np.stack([sample["boxes"] for sample in samples])),
        "image_sizes": torch.tensor([sample["image_size"] for sample in samples], dtype=torch.float32),
        "file_names": [sample["file_name"] for sample in samples],
    }
    if "recipes" in samples[0]:
        batch["recipes"] = tuple(collate_recipes(view) for view in zip(*(sample["recipes"] for sample in samples)))
    for key in ("flow_there", "flow_back", "frames"):
        if key in samples[0]:
            batch[key] = torch.from_numpy(_stack([sample[key] for sample in samples]))
    if "flow_there" in batch:
        batch["flow_sizes"] = torch.tensor([sample["flow_there"].shape[-2:] for sample in samples])
    return batch


def _stack(arrays: Sequence[np.ndarray]) -> np.ndarray:
    largest = np.max([array.shape[-2:] for array in arrays], axis=0)
    return np.stack([_pad(array, *(largest - array.shape[-2:])) for array in arrays])


def _pad(array: np.ndarray, below: int, right: int) -> np.ndarray:
    if not below and not right:
        return array  # the usual case costs no copy
    return np.pad(array, [(0, 0)] * (array.ndim - 2) + [(0, below), (0, right)], mode="edge")
