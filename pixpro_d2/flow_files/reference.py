"""Optical flow in the file format of PixPro-with-OpticalFlow.

``ROOT/forward/<video>.pth`` and ``ROOT/backward/<video>.pth`` hold one float32 tensor (n - 1, 2, H / 8, W / 8) for the
n frames of a video. ``backward`` is reversed in time: its step i leads from frame n - 1 - i to frame n - 2 - i.
"""

import os
import zipfile
from collections.abc import Sequence

import numpy as np
import torch

from ..utils.errors import UsageError
from .native import INFO

FOLDERS = ("forward", "backward")
BACKWARD_ORDER = -1  # the steps of the backward flow are stored against the order of time


def found_in(root: str) -> bool:
    """Return whether ``root`` is a folder of such files."""
    folders = [os.path.join(root, folder) for folder in FOLDERS]
    # Videos of our own format may have these names, too.
    return all(os.path.isdir(folder) and not os.path.isfile(os.path.join(folder, INFO)) for folder in folders)


def paths(root: str, video: str) -> list[str]:
    """Return the files of the forward and backward flow of a video."""
    return [os.path.join(root, folder, f"{video}.pth") for folder in FOLDERS]


def listed(root: str) -> set[str]:
    """Return the names of the videos that have both files."""
    names = [{name.removesuffix(".pth") for name in os.listdir(os.path.join(root, folder))} for folder in FOLDERS]
    return set.intersection(*names)


def read_skipped(root: str) -> dict[str, str]:
    """Return an empty dict: this format does not record skipped videos, see :func:`.native.read_skipped`."""
    return {}


def read_range(root: str, video: str) -> None:
    """Return None: this format does not record the range of pixels, see :func:`.native.read_range`."""
    return None


def load(path: str) -> np.ndarray:
    """Load the array in a file, mapped into memory if the file format allows it.

    Raises:
        UsageError: if the file holds anything but a tensor; no code in the file is run.
    """
    try:
        mapped = zipfile.is_zipfile(path)  # the format since PyTorch 1.6
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped).numpy()
    except Exception as error:  # the decoders may raise any exception for bytes that are no tensor
        raise UsageError(
            f"{path} was not read: it is damaged, or holds more than the one tensor of a flow file "
            f"({type(error).__name__})."
        ) from error


def mismatch(
    root: str,
    video: str,
    shape: tuple[int, ...],
    frame_size: Sequence[int] | None,
    frames: Sequence[str] | None,
) -> str | None:
    """Return the reason why flow does not belong to a video, see :func:`.native.mismatch`.

    This format records nothing about the frames. The sides of the frames must be multiples of the sides of the flow.
    """
    if frame_size is None:
        return None
    scales = {divmod(frame, flow) for frame, flow in zip(frame_size, shape[2:])}
    if len(scales) == 1 and scales.pop()[1] == 0:
        return None
    return (
        f"its {shape[2]} x {shape[3]} pixels are no 1/8 of frames of {frame_size[0]} x {frame_size[1]} (height x width)"
    )
