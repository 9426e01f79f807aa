"""Optical flow in this project's own file format.

    ROOT/<video>/forward.npy   (n - 1, 2, h, w) float16 for n frames; [i] leads from frame i to frame i + 1
    ROOT/<video>/backward.npy  the same, [i] leads from frame i + 1 to frame i
    ROOT/<video>/flow.json     describes the video and the flow, see FlowInfo
    ROOT/manifest.json         the contents of all flow.json; the videos that cannot have flow, and the reasons

The folder of a video appears when it is complete. Arrays are mapped into memory, so that a sample reads only the steps
that it uses.
"""

import json
import os
import shutil
import uuid
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..utils.errors import UsageError
from ..utils.files import read_json, write_json

if TYPE_CHECKING:
    import torch

VERSION = 1
ARRAYS = ("forward.npy", "backward.npy")
BACKWARD_ORDER = 1  # the steps of the backward flow are stored in the order of time
INFO = "flow.json"
MANIFEST = "manifest.json"
TOOL = "python -m pixpro_d2.tools.extract_flow"


class FlowInfo(NamedTuple):
    """Describe the flow of a video.

    Attributes:
        video: name of the video.
        frames: number of frames of the video, n.
        frame_size: (H, W) of the frames, pixels.
        flow_size: (h, w) of the flow, pixels.
        estimator: name of the estimator that made the flow.
        fingerprint: fingerprint of the frames, see :func:`fingerprint`; None if unknown.
        folder: real path of the folder of the frames when the flow was made; None if unknown.
        pixel_range: INPUT.PIXEL_RANGE with which frames of more than 8 bits were read; () without a range.
    """

    video: str
    frames: int
    frame_size: tuple[int, ...]
    flow_size: tuple[int, ...]
    estimator: str
    fingerprint: str | None = None
    folder: str | None = None
    pixel_range: tuple[float, ...] = ()

    @property
    def scale(self) -> float:
        """Return the number of frame pixels per flow pixel, for the side with the larger ratio."""
        return max(frame / flow for frame, flow in zip(self.frame_size, self.flow_size))

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape of the array of one direction."""
        return (self.frames - 1, 2, *self.flow_size)

    @property
    def num_bytes(self) -> int:
        """Return the number of bytes of both directions."""
        return 2 * int(np.prod(self.shape)) * np.dtype(np.float16).itemsize


def fingerprint(frames: Sequence[str | Path]) -> str:
    """Return the CRC-32 of the first and the last frame file of a video, 8 digits, to recognise its frames."""
    content = b"".join(Path(path).read_bytes() for path in (frames[0], frames[-1]))
    return f"{zlib.crc32(content):08x}"


def write_flow(
    root: str | Path,
    video: str,
    forward: "np.ndarray | torch.Tensor",
    backward: "np.ndarray | torch.Tensor",
    frame_size: Sequence[int],
    estimator: str,
    fingerprint: str | None = None,
) -> None:
    """Write the flow of one video.

    Args:
        root: folder of the flow of all videos.
        video: name of the video.
        forward, backward: (n - 1, 2, h, w) flow on the CPU, both in the order of time. ``forward[i]``
            leads from frame i to frame i + 1, ``backward[i]`` from frame i + 1 to frame i.
        frame_size: (H, W) of the frames, pixels.
        estimator: name of the estimator that made the flow.
        fingerprint: fingerprint of the frames, see :func:`fingerprint`.
    """
    info = FlowInfo(video, len(forward) + 1, tuple(frame_size), tuple(forward.shape[2:]), estimator, fingerprint)
    stream_flow(root, info, [(forward, backward)])


def stream_flow(
    root: str | Path,
    info: FlowInfo,
    batches: "Iterable[tuple[np.ndarray | torch.Tensor, np.ndarray | torch.Tensor]]",
) -> None:
    """Write the flow of one video batch by batch; replace older flow of the video.

    Args:
        root: folder of the flow of all videos.
        info: description of the flow.
        batches: consecutive steps of (forward, backward), see :func:`write_flow`. Exceptions of the iterable are
            passed on, and no file stays.

    Raises:
        ValueError: if the batches do not add up to ``info.shape``.
    """
    folder, stale = Path(root, info.video), _stale(root, info.video)
    partial = folder.with_name(f".{folder.name}.partial")
    restore(root, info.video)
    shutil.rmtree(partial, ignore_errors=True)  # a killed process may have left the folder
    partial.mkdir(parents=True)
    try:
        # Write instead of mapping: on a full disk write() raises OSError, but mapped memory kills the process.
        with open(partial / ARRAYS[0], "wb") as forward, open(partial / ARRAYS[1], "wb") as backward:
            header = {"descr": "<f2", "fortran_order": False, "shape": info.shape}
            for file in (forward, backward):
                np.lib.format.write_array_header_1_0(file, header)
            end = forward.tell() + info.num_bytes // 2
            for batch in batches:
                for file, steps in zip((forward, backward), batch):
                    file.write(np.ascontiguousarray(steps, dtype="<f2").data)
            if not forward.tell() == backward.tell() == end:
                raise ValueError(f"the steps of '{info.video}' do not make up an array of the shape {info.shape}")
        write_json(partial / INFO, info._asdict() | {"scale": info.scale, "version": VERSION})
        if folder.exists():
            os.rename(folder, stale)
        os.rename(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        restore(root, info.video)


def restore(root: str | Path, video: str) -> None:
    """Finish an interrupted replacement of a video's flow: put the older flow back if there is no new flow."""
    stale = _stale(root, video)
    if stale.exists() and not Path(root, video).exists():
        os.rename(stale, Path(root, video))
    shutil.rmtree(stale, ignore_errors=True)


def _stale(root: str | Path, video: str) -> Path:
    """Return the folder of a video's older flow during its replacement."""
    return Path(root, f".{video}.stale")


def read_info(root: str | Path, video: str) -> FlowInfo | None:
    """Return the FlowInfo of a complete video below ``root``, or None if this version wrote no such video."""
    content = FlowInfo._field_defaults | _read(Path(root, video, INFO))  # older files lack the last fields
    try:
        values = [content[field] for field in FlowInfo._fields]
        return FlowInfo._make(tuple(value) if isinstance(value, list) else value for value in values)
    except KeyError:
        return None


def read_range(root: str | Path, video: str) -> tuple[float, ...] | None:
    """Return the ``pixel_range`` of a video's flow; None if it is unknown, as for flow that is no estimate."""
    content = _read(Path(root, video, INFO))
    values = content.get("pixel_range") if content.get("folder") else None
    return None if values is None else tuple(values)


def describe_range(pixel_range: Sequence[float]) -> str:
    """Return words for the option of extract_flow that sets a FlowInfo's ``pixel_range``."""
    return "with --pixel-range {:g} {:g}".format(*pixel_range) if pixel_range else "without --pixel-range"


def _read(path: Path) -> dict[str, Any]:
    """Return the content of a JSON file that this version wrote, or an empty dict for another or missing file."""
    content = read_json(path)
    return content if isinstance(content, dict) and content.get("version") == VERSION else {}


def write_manifest(root: str | Path, skipped: Mapping[str, str | None] | None = None) -> int:
    """Write ``root/manifest.json`` with all complete videos, and return the number of videos.

    Args:
        root: folder of the flow of all videos.
        skipped: names of videos that cannot have flow, with the reason; the reason None removes a video from the
            list. Other videos in the list of the last manifest stay.
    """
    found = {folder: _read(Path(root, folder, INFO)) for folder in sorted(listed(root))}
    videos = {video: content for video, content in found.items() if content}
    reasons = sorted((read_skipped(root) | dict(skipped or {})).items())
    manifest = {"version": VERSION, "videos": videos, "skipped": {video: why for video, why in reasons if why}}
    partial = Path(root, f".{MANIFEST}.{uuid.uuid4().hex}")  # unique, because several processes may write manifests
    try:
        partial.write_text(json.dumps(manifest, indent=1) + "\n")
        os.replace(partial, Path(root, MANIFEST))
    finally:
        partial.unlink(missing_ok=True)
    return len(videos)


def read_skipped(root: str | Path) -> dict[str, str]:
    """Return the videos that cannot have flow according to the manifest, with the reasons."""
    return _read(Path(root, MANIFEST)).get("skipped", {})


def listed(root: str | Path) -> set[str]:
    """Return the names of the videos with a folder below ``root``; no folder is opened."""
    return {entry.name for entry in os.scandir(root) if entry.is_dir() and not entry.name.startswith(".")}


def paths(root: str | Path, video: str) -> list[str]:
    """Return the files of the forward and backward flow of a video."""
    return [os.path.join(root, video, name) for name in ARRAYS]


def load(path: str) -> np.ndarray:
    """Map the array in a file into memory.

    Raises:
        UsageError: if the file is damaged.
    """
    try:
        return np.lib.format.open_memmap(path, mode="r")  # never reads pickles
    except (OSError, ValueError, EOFError) as error:
        raise UsageError(f"{path} is damaged ({error}): make it again with {TOOL}.") from error


def mismatch(
    root: str | Path,
    video: str,
    shape: tuple[int, ...],
    frame_size: Sequence[int] | None,
    frames: Sequence[str] | None,
) -> str | None:
    """Return the reason why flow does not belong to a video, or None if the flow belongs to it.

    Args:
        root: folder of the flow of all videos.
        video: name of the video.
        shape: shape of the forward flow, (n - 1, 2, h, w).
        frame_size: (H, W) of the frames, pixels; not compared if None.
        frames: paths of the frames; not compared if None.
    """
    info = read_info(root, video)
    if info is None or (info.video, info.shape) != (video, shape):
        return f"{os.path.join(root, video, INFO)} is missing, or describes something else"
    if frame_size is not None and info.frame_size != tuple(frame_size):
        sizes = [f"{height} x {width}" for height, width in (info.frame_size, frame_size)]
        return f"it is of frames of {sizes[0]} pixels (height x width), not {sizes[1]}"
    if frames is not None and info.fingerprint not in (None, fingerprint(frames)):
        folder = os.path.dirname(frames[0])
        if info.folder in (None, os.path.realpath(folder)):
            return f"it is of other frames than those in {folder}"
        return f"it is of the frames in {info.folder}, not of those in {folder}"
    return None
