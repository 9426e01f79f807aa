"""Frames and estimators for the tests of pixpro_d2.flow."""

import os

import numpy as np
import torch
from PIL import Image

from pixpro_d2.flow.grid import grid_size
from pixpro_d2.flow_files import write_flow

VALUES = (0, 1, 4, 9, 16)  # of the frames of :func:`write_two_videos`: neighbours differ by 1, 3, 5, 7
SIZE = (16, 24)  # of the frames of :func:`write_native`; their flow has 2 x 3 pixels


class Payload:
    """What a malicious pickle holds: unpickling it makes the file ``path``."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


class Differences:
    """Estimator whose flow is (second - first, first) of the red value of frames of one colour."""

    name = "differences"
    scale = 8

    def __init__(self):
        self.batches = []

    def __call__(self, first, second):
        self.batches.append(len(first))
        h, w = grid_size(first.shape[-2:], self.scale)
        values = first[:, 0, 0, 0].float(), second[:, 0, 0, 0].float()
        flow = torch.stack((values[1] - values[0], values[0]), dim=1)
        return flow[:, :, None, None].expand(-1, -1, h, w)


def write_plain_frames(folder, values, size=(16, 24)):
    """Write a video whose frame i is of the grey value ``values[i]`` and of ``size`` (height, width)."""
    folder.mkdir(parents=True, exist_ok=True)
    for i, value in enumerate(values):
        Image.new("RGB", size[::-1], (value,) * 3).save(folder / f"{i:05d}.png")


def write_two_videos(root):
    """Write two videos, of 5 and 3 frames of 16 x 24 pixels, whose flow has 2 x 3; return the folder."""
    write_plain_frames(root / "a", VALUES)
    write_plain_frames(root / "b", (10, 20, 40))
    return root


def flow(seed=0, steps=5, size=(2, 3)):
    """Forward and backward flow with a value of its own everywhere, exact in float16."""
    values = np.random.default_rng(seed).permutation(2 * steps * 2 * size[0] * size[1]) / 8
    return tuple(values.reshape(2, steps, 2, *size).astype(np.float32))


def write_native(root, video, forward, backward):
    """Write the flow of a video with frames of SIZE."""
    write_flow(str(root), video, forward, backward, SIZE, "exact")
