"""This project's files of optical flow.

    ROOT/<video>/forward.npy   (n - 1, 2, h, w) float16 for n frames; [i] leads from frame i to frame i + 1
    ROOT/<video>/backward.npy  the same, [i] leads from frame i + 1 to frame i
    ROOT/<video>/flow.json     what it is the flow of, see FlowInfo
    ROOT/manifest.json         the contents of all flow.json

The folder of a video appears when it is complete. Arrays are mapped into memory, so that a sample reads only the steps
that it uses.
"""

import json
import os
import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..checkpoint.writing import write_file
from ..errors import UsageError

VERSION = 1
ARRAYS = ("forward.npy", "backward.npy")
BACKWARD_ORDER = 1  # of the steps of the backward flow: that of time
INFO = "flow.json"
MANIFEST = "manifest.json"
TOOL = "python -m pixpro_d2.tools.extract_flow"


class FlowInfo(NamedTuple):
    """What the flow of a video is the flow of.

    Attributes:
        video (str): name of the video.
        frames (int): its number of frames, n.
        frame_size (tuple[int, int]): (H, W) of its frames, pixels.
        flow_size (tuple[int, int]): (h, w) of the flow.
        estimator (str): what made it.
    """

    video: str
    frames: int
    frame_size: tuple
    flow_size: tuple
    estimator: str

    @property
    def shape(self):
        """Of the array of one direction."""
        return (self.frames - 1, 2, *self.flow_size)

    @property
    def num_bytes(self):
        """Of both directions."""
        return 2 * int(np.prod(self.shape)) * np.dtype(np.float16).itemsize


def write_flow(root, video, forward, backward, frame_size, estimator):
    """Write the flow of one video.

    Args:
        root (str): folder of the flow of all videos.
        video (str): name of the video.
        forward, backward (array or Tensor on the CPU): (n - 1, 2, h, w), both in the order of time: ``forward[i]``
            leads from frame i to frame i + 1, ``backward[i]`` from frame i + 1 to frame i.
        frame_size (tuple[int, int]): (H, W) of the frames, pixels.
        estimator (str): what made it.
    """
    info = FlowInfo(video, len(forward) + 1, tuple(frame_size), tuple(forward.shape[2:]), estimator)
    stream_flow(root, info, [(forward, backward)])


def stream_flow(root, info, batches):
    """Write the flow of one video, in place of an older one, while it is made.

    Args:
        root (str): folder of the flow of all videos.
        info (FlowInfo): what it is.
        batches (Iterable[tuple]): consecutive steps of (forward, backward), as of :func:`write_flow`. What it raises
            is passed on, and leaves no file.

    Raises:
        ValueError: if the batches do not make up ``info.shape``.
    """
    folder = Path(root, info.video)
    partial, stale = (folder.with_name(f".{folder.name}.{kind}") for kind in ("partial", "stale"))
    shutil.rmtree(partial, ignore_errors=True)  # of a process that was killed
    partial.mkdir(parents=True)
    try:
        # Written, not mapped: a full disk is an OSError in write(), but kills a process that writes to mapped memory.
        with open(partial / ARRAYS[0], "wb") as forward, open(partial / ARRAYS[1], "wb") as backward:
            header = {"descr": "<f2", "fortran_order": False, "shape": info.shape}
            for file in (forward, backward):
                np.lib.format.write_array_header_1_0(file, header)
            end = forward.tell() + info.num_bytes // 2
            for batch in batches:
                for file, steps in zip((forward, backward), batch):
                    file.write(np.ascontiguousarray(steps, dtype="<f2"))
            if not forward.tell() == backward.tell() == end:
                raise ValueError(f"the steps of '{info.video}' do not make up an array of the shape {info.shape}")
        (partial / INFO).write_text(json.dumps(info._asdict() | {"scale": _scale(info), "version": VERSION}) + "\n")
        if folder.exists():
            shutil.rmtree(stale, ignore_errors=True)
            os.rename(folder, stale)
        os.rename(partial, folder)
        shutil.rmtree(stale, ignore_errors=True)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _scale(info):
    """Pixels of the frame to one of the flow, of the two sides the larger."""
    return max(frame / flow for frame, flow in zip(info.frame_size, info.flow_size))


def read_info(root, video):
    """FlowInfo of a complete video below ``root``, None where there is none that this version wrote."""
    try:
        content = json.loads(Path(root, video, INFO).read_text())
        if content.pop("version") != VERSION:
            return None
        values = [content[field] for field in FlowInfo._fields]
        return FlowInfo(*(tuple(value) if isinstance(value, list) else value for value in values))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def write_manifest(root):
    """Write ``root/manifest.json`` of all complete videos; returns their number."""
    paths = [path for path in sorted(Path(root).glob(f"*/{INFO}")) if not path.parent.name.startswith(".")]
    videos = {path.parent.name: json.loads(path.read_text()) for path in paths}
    text = json.dumps({"version": VERSION, "videos": videos}, indent=1)
    write_file(str(Path(root, MANIFEST)), lambda partial: Path(partial).write_text(text + "\n"))
    return len(videos)


def paths(root, video):
    """Files of the forward and backward flow of a video."""
    return [os.path.join(root, video, name) for name in ARRAYS]


def load(path):
    """The array in a file, mapped into memory.

    Raises:
        UsageError: for a damaged file.
    """
    try:
        return np.lib.format.open_memmap(path, mode="r")  # which knows no pickles
    except (OSError, ValueError, EOFError) as error:
        raise UsageError(f"{path} is damaged ({error}): make it anew with {TOOL}.") from error


def mismatch(root, video, shape, frame_size):
    """Why flow of ``shape`` is not that of a video with frames of ``frame_size``, None if it is.

    Args:
        root (str), video (str): where it is.
        shape (tuple[int]): of the forward flow, (n - 1, 2, h, w).
        frame_size (tuple[int, int] or None): (H, W) of the frames; not compared if None.
    """
    info = read_info(root, video)
    if info is None or (info.video, info.shape) != (video, shape):
        return f"{os.path.join(root, video, INFO)} is missing, or describes something else"
    if frame_size is not None and info.frame_size != tuple(frame_size):
        sizes = [f"{height} x {width}" for height, width in (info.frame_size, frame_size)]
        return f"it is of frames of {sizes[0]} pixels (height x width), not {sizes[1]}"
    return None
