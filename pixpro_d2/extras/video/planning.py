"""Plan the flow of a video, and check whether the flow exists."""

from pathlib import Path
from typing import Any

from PIL import Image

from ...data.datasets.video import list_frames
from ...data.io.reader import upright_size
from ...flow.dis import DIS
from ...flow.grid import grid_size
from ...flow.raft import RAFT
from ...flow_files.native import FlowInfo, fingerprint, read_info
from ...flow_files.storage import FlowFiles
from ...utils.errors import UsageError


class UnusableVideo(Exception):
    """State why a video has no flow; the message names its folder or the frame."""


def frames_of(folder: str) -> list[str]:
    """List the frames as ``list_frames`` does; raise UnusableVideo if the folder cannot be read."""
    try:
        return list_frames(folder)
    except OSError as error:
        raise UnusableVideo(f"{folder}: {error.strerror}") from error


def plan(video: dict[str, Any], estimator: DIS | RAFT) -> FlowInfo:
    """Return the FlowInfo of the future flow of a video (dict of ``load_videos``).

    Raises:
        UnusableVideo: if the video has fewer than two frames, the first frame has no size, or the folder cannot be
        read.
    """
    frames = frames_of(video["file_name"])
    if len(frames) < 2:
        raise UnusableVideo(f"{video['file_name']}: a single frame, which has no flow")
    try:
        with Image.open(frames[0]) as image:  # only the header is read
            size = upright_size(image)[::-1]
    except (OSError, Image.DecompressionBombError) as error:
        raise UnusableVideo(f"{frames[0]}: not an image, or a damaged one") from error
    try:
        mark = fingerprint(frames)
    except OSError as error:
        raise UnusableVideo(f"{frames[-1]}: {error.strerror}") from error
    return FlowInfo(video["video"], len(frames), size, grid_size(size, estimator.scale), estimator.name, mark)


def is_written(out: str | Path, info: FlowInfo) -> bool:
    """Return whether ``out`` has exactly this flow, and all of it."""
    there = read_info(out, info.video)
    if there is None or there._replace(fingerprint=there.fingerprint or info.fingerprint) != info:
        return False
    try:
        FlowFiles(out).check(info.video, info.frames, info.frame_size)
    except UsageError:  # truncated files, for example by copying
        return False
    return True


def check_kind(out: str | Path, video: str, estimator: DIS | RAFT) -> None:
    """Raise a UsageError if a video has flow of another estimator, or at another scale."""
    there = read_info(out, video)
    if there is None:
        return
    if (there.estimator, there.flow_size) != (estimator.name, grid_size(there.frame_size, estimator.scale)):
        raise UsageError(
            f"{Path(out, video)} has flow by {there.estimator} at 1/{there.scale:.3g} of the resolution, not by "
            f"{estimator.name} at 1/{estimator.scale}: choose another folder, or replace it with --overwrite."
        )
