"""Plan the flow of a video, and check whether the flow exists."""

import os
from pathlib import Path
from typing import Any

from PIL import Image

from ...data.datasets.video import list_frames
from ...data.io.reader import is_deep, upright_size
from ...flow.dis import DIS
from ...flow.grid import grid_size
from ...flow.raft import RAFT
from ...flow_files import FlowFiles
from ...flow_files.native import FlowInfo, describe_range, fingerprint, read_info
from ...utils.errors import UsageError


class UnusableVideo(Exception):
    """State why a video has no flow; the message names its folder or the frame."""


def frames_of(folder: str) -> list[str]:
    """List the frames as ``list_frames`` does; raise UnusableVideo if the folder cannot be read."""
    try:
        return list_frames(folder)
    except OSError as error:
        raise UnusableVideo(f"{folder}: {error.strerror}") from error


def plan(video: dict[str, Any], estimator: DIS | RAFT, pixel_range: tuple[float, ...]) -> FlowInfo:
    """Return the FlowInfo of the future flow of a video (dict of ``load_videos``).

    It has ``pixel_range`` (INPUT.PIXEL_RANGE) only if the first frame has more than 8 bits: other frames do not use it.

    Raises:
        UnusableVideo: if the video has fewer than two frames, the first frame has no size, or the folder cannot be
        read.
    """
    frames = frames_of(video["file_name"])
    if len(frames) < 2:
        raise UnusableVideo(f"{video['file_name']}: a single frame, which has no flow")
    try:
        with Image.open(frames[0]) as image:  # only the header is read
            size, used_range = upright_size(image)[::-1], pixel_range if is_deep(image) else ()
    except Exception as error:  # decoders may raise any exception for damaged bytes
        raise UnusableVideo(f"{frames[0]}: not an image, or a damaged one") from error
    try:
        mark = fingerprint(frames)
    except OSError as error:
        raise UnusableVideo(f"{frames[-1]}: {error.strerror}") from error
    flow_size, folder = grid_size(size, estimator.scale), os.path.realpath(video["file_name"])
    return FlowInfo(video["video"], len(frames), size, flow_size, estimator.name, mark, folder, used_range)


def is_written(out: str | Path, info: FlowInfo) -> bool:
    """Return whether ``out`` has exactly this flow, and all of it; the folder of the frames may have moved."""
    there = read_info(out, info.video)
    if there is None:
        return False
    if there._replace(fingerprint=there.fingerprint or info.fingerprint, folder=info.folder) != info:
        return False
    try:
        FlowFiles(out).check(info.video, info.frames, info.frame_size)
    except UsageError:  # truncated files, for example by copying
        return False
    return True


def check_replaceable(out: str | Path, info: FlowInfo, estimator: DIS | RAFT) -> None:
    """Check that ``out`` has no flow of the video's name that only the user can decide to replace.

    Flow of the same folder of frames is replaceable if the frames have changed. Flow whose fingerprint is unknown is
    not compared with the frames.

    Raises:
        UsageError: if the flow is of frames of another folder, or by another estimator, scale or pixel range.
    """
    there, place = read_info(out, info.video), Path(out, info.video)
    if there is None:
        return
    if there.fingerprint not in (None, info.fingerprint) and there.folder != info.folder:
        raise UsageError(
            f"{place} has flow of {_words_of_frames(there)}, not of those in {info.folder}: choose another folder for "
            "the flow, rename the video, or replace the flow with --overwrite if the frames of this video have changed."
        )
    if (there.estimator, there.flow_size) != (estimator.name, grid_size(there.frame_size, estimator.scale)):
        raise UsageError(
            f"{place} has flow by {there.estimator} at 1/{there.scale:.3g} of the resolution, not by "
            f"{estimator.name} at 1/{estimator.scale}: choose another folder, or replace it with --overwrite."
        )
    if there.pixel_range != info.pixel_range:
        raise UsageError(
            f"{place} has flow of frames that were read {describe_range(there.pixel_range)}, not "
            f"{describe_range(info.pixel_range)}: choose another folder, or replace it with --overwrite."
        )


def _words_of_frames(info: FlowInfo) -> str:
    return f"the frames in {info.folder}" if info.folder else "other frames"
