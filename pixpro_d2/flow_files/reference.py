"""The flow files that PixPro-with-OpticalFlow trains from.

``ROOT/forward/<video>.pth`` and ``ROOT/backward/<video>.pth`` hold one float32 tensor (n - 1, 2, H / 8, W / 8) for the
n frames of a video. ``backward`` is reversed in time: its step i leads from frame n - 1 - i to frame n - 2 - i.
"""

import os
import zipfile

import torch

from ..utils.errors import UsageError
from .native import INFO

FOLDERS = ("forward", "backward")
BACKWARD_ORDER = -1  # of the steps of the backward flow: against time


def found_in(root):
    """Whether ``root`` is a folder of such files."""
    folders = [os.path.join(root, folder) for folder in FOLDERS]
    # Videos may be called so, too.
    return all(os.path.isdir(folder) and not os.path.isfile(os.path.join(folder, INFO)) for folder in folders)


def paths(root, video):
    """Files of the forward and backward flow of a video."""
    return [os.path.join(root, folder, f"{video}.pth") for folder in FOLDERS]


def listed(root):
    """Names (set) of the videos that have both files."""
    names = [{name.removesuffix(".pth") for name in os.listdir(os.path.join(root, folder))} for folder in FOLDERS]
    return set.intersection(*names)


def read_skipped(root):
    """As :func:`.native_files.read_skipped`; such files do not say that."""
    return {}


def load(path):
    """The array in a file, mapped into memory where its format lets it.

    Raises:
        UsageError: for a file that holds anything but a tensor; nothing in it is run.
    """
    try:
        mapped = zipfile.is_zipfile(path)  # the format since PyTorch 1.6
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped).numpy()
    except Exception as error:  # bytes that are no tensor make the decoders raise anything
        raise UsageError(
            f"{path} was not read: it is damaged, or holds more than the one tensor of a flow file "
            f"({type(error).__name__})."
        ) from error


def mismatch(root, video, shape, frame_size, frames):
    """As :func:`.native_files.mismatch`; such files hold nothing on the frames, whose sides have to be multiples."""
    if frame_size is None:
        return None
    scales = {divmod(frame, flow) for frame, flow in zip(frame_size, shape[2:])}
    if len(scales) == 1 and scales.pop()[1] == 0:
        return None
    return (
        f"its {shape[2]} x {shape[3]} pixels are no 1/8 of frames of {frame_size[0]} x {frame_size[1]} (height x width)"
    )
