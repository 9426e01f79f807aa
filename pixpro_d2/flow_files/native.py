"""This project's files of optical flow.

    ROOT/<video>/forward.npy   (n - 1, 2, h, w) float16 for n frames; [i] leads from frame i to frame i + 1
    ROOT/<video>/backward.npy  the same, [i] leads from frame i + 1 to frame i
    ROOT/<video>/flow.json     what it is the flow of, see FlowInfo
    ROOT/manifest.json         the contents of all flow.json, and which videos cannot have flow, and why

The folder of a video appears when it is complete. Arrays are mapped into memory, so that a sample reads only the steps
that it uses.
"""

import json
import os
import shutil
import uuid
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..utils.errors import UsageError
from ..utils.files import read_json, write_json

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
        fingerprint (str or None): of the frames, see :func:`fingerprint`; None where nobody took it.
    """

    video: str
    frames: int
    frame_size: tuple
    flow_size: tuple
    estimator: str
    fingerprint: str | None = None

    @property
    def scale(self):
        """Pixels of the frame to one of the flow, of the two sides the larger."""
        return max(frame / flow for frame, flow in zip(self.frame_size, self.flow_size))

    @property
    def shape(self):
        """Of the array of one direction."""
        return (self.frames - 1, 2, *self.flow_size)

    @property
    def num_bytes(self):
        """Of both directions."""
        return 2 * int(np.prod(self.shape)) * np.dtype(np.float16).itemsize


def fingerprint(frames):
    """What tells the frames of a video (list of paths) from others: the CRC-32 of its first and last file, 8 digits."""
    content = b"".join(Path(path).read_bytes() for path in (frames[0], frames[-1]))
    return f"{zlib.crc32(content):08x}"


def write_flow(root, video, forward, backward, frame_size, estimator, fingerprint=None):
    """Write the flow of one video.

    Args:
        root (str): folder of the flow of all videos.
        video (str): name of the video.
        forward, backward (array or Tensor on the CPU): (n - 1, 2, h, w), both in the order of time: ``forward[i]``
            leads from frame i to frame i + 1, ``backward[i]`` from frame i + 1 to frame i.
        frame_size (tuple[int, int]): (H, W) of the frames, pixels.
        estimator (str): what made it.
        fingerprint (str or None): of the frames, see :func:`fingerprint`.
    """
    info = FlowInfo(video, len(forward) + 1, tuple(frame_size), tuple(forward.shape[2:]), estimator, fingerprint)
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
    folder, stale = Path(root, info.video), _stale(root, info.video)
    partial = folder.with_name(f".{folder.name}.partial")
    restore(root, info.video)
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
        write_json(partial / INFO, info._asdict() | {"scale": info.scale, "version": VERSION})
        if folder.exists():
            os.rename(folder, stale)
        os.rename(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        restore(root, info.video)


def restore(root, video):
    """End the replacement of a video's flow that was broken off: what has not been replaced is put back."""
    stale = _stale(root, video)
    if stale.exists() and not Path(root, video).exists():
        os.rename(stale, Path(root, video))
    shutil.rmtree(stale, ignore_errors=True)


def _stale(root, video):
    """Where the older flow of a video is while the newer takes its place."""
    return Path(root, f".{video}.stale")


def read_info(root, video):
    """FlowInfo of a complete video below ``root``, None where there is none that this version wrote."""
    content = {"fingerprint": None} | _read(Path(root, video, INFO))
    try:
        values = [content[field] for field in FlowInfo._fields]
        return FlowInfo(*(tuple(value) if isinstance(value, list) else value for value in values))
    except KeyError:
        return None


def _read(path):
    """What this version wrote to a JSON file, an empty dict for any other file and for none."""
    content = read_json(path)
    return content if isinstance(content, dict) and content.get("version") == VERSION else {}


def write_manifest(root, skipped=None):
    """Write ``root/manifest.json`` of all complete videos; returns their number.

    Args:
        root (str): folder of the flow of all videos.
        skipped (dict[str, str or None] or None): names of videos that cannot have flow, and why; None for those that
            can again. Those of the last manifest that are not named stay.
    """
    found = {folder: _read(Path(root, folder, INFO)) for folder in sorted(listed(root))}
    videos = {video: content for video, content in found.items() if content}
    reasons = sorted((read_skipped(root) | (skipped or {})).items())
    manifest = {"version": VERSION, "videos": videos, "skipped": {video: why for video, why in reasons if why}}
    partial = Path(root, f".{MANIFEST}.{uuid.uuid4().hex}")  # a name of its own: there may be several such processes
    try:
        partial.write_text(json.dumps(manifest, indent=1) + "\n")
        os.replace(partial, Path(root, MANIFEST))
    finally:
        partial.unlink(missing_ok=True)
    return len(videos)


def read_skipped(root):
    """The videos (dict[str, str]) that cannot have flow by the manifest, and why."""
    return _read(Path(root, MANIFEST)).get("skipped", {})


def listed(root):
    """Names (set) of the videos below ``root`` that have a folder, none of which is opened."""
    return {entry.name for entry in os.scandir(root) if entry.is_dir() and not entry.name.startswith(".")}


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


def mismatch(root, video, shape, frame_size, frames):
    """Why flow of ``shape`` is not that of a video with frames of ``frame_size``, None if it is.

    Args:
        root (str), video (str): where it is.
        shape (tuple[int]): of the forward flow, (n - 1, 2, h, w).
        frame_size (tuple[int, int] or None): (H, W) of the frames; not compared if None.
        frames (list[str] or None): their paths; not compared if None.
    """
    info = read_info(root, video)
    if info is None or (info.video, info.shape) != (video, shape):
        return f"{os.path.join(root, video, INFO)} is missing, or describes something else"
    if frame_size is not None and info.frame_size != tuple(frame_size):
        sizes = [f"{height} x {width}" for height, width in (info.frame_size, frame_size)]
        return f"it is of frames of {sizes[0]} pixels (height x width), not {sizes[1]}"
    if frames is not None and info.fingerprint not in (None, fingerprint(frames)):
        return f"it is of other frames than those in {os.path.dirname(frames[0])}"
    return None
