"""Joining samples of :class:`pixpro_d2.data.video_mapper.VideoMapper` into one batch."""

import numpy as np
import torch

from .collate import collate_views


def collate_videos(samples):
    """Stack samples into a batch, padding what has the size of frames.

    Returns:
        dict: of :func:`collate_views`, and for N samples that have them

        * flow_there, flow_back: (N, steps, 2, h, w) float16 tensors, padded at the bottom and right by edge values to
          the largest of the batch;
        * flow_sizes: (N, 2) int64, (height, width) of the samples' own flow;
        * frames: (N, num_frames, 3, H, W) uint8, padded likewise; ``image_sizes`` has the frames' own sizes.
    """
    batch = collate_views(samples)
    for key in ("flow_there", "flow_back", "frames"):
        if key in samples[0]:
            batch[key] = torch.from_numpy(_stack([sample[key] for sample in samples]))
    if "flow_there" in batch:
        batch["flow_sizes"] = torch.tensor([sample["flow_there"].shape[-2:] for sample in samples])
    return batch


def _stack(arrays):
    largest = np.max([array.shape[-2:] for array in arrays], axis=0)
    return np.stack([_pad(array, *(largest - array.shape[-2:])) for array in arrays])


def _pad(array, below, right):
    if not below and not right:
        return array  # the usual case costs no copy
    return np.pad(array, [(0, 0)] * (array.ndim - 2) + [(0, below), (0, right)], mode="edge")
