"""What the flow of a video is going to be, and whether it is there already."""

from pathlib import Path

from PIL import Image

from ...data.datasets.video import list_frames
from ...data.io.reader import upright_size
from ...flow.grid import grid_size
from ...flow_files.native import FlowInfo, fingerprint, read_info
from ...flow_files.storage import FlowFiles
from ...utils.errors import UsageError


class UnusableVideo(Exception):
    """A video that has no flow; the message names its folder, or the frame, and the reason."""


def frames_of(folder):
    """As ``list_frames``; raises UnusableVideo for a folder that cannot be read."""
    try:
        return list_frames(folder)
    except OSError as error:
        raise UnusableVideo(f"{folder}: {error.strerror}") from error


def plan(video, estimator):
    """FlowInfo of the flow that a video (dict of ``load_videos``) is going to have.

    Raises:
        UnusableVideo: for less than two frames, a first one without a size, or a folder that cannot be read.
    """
    frames = frames_of(video["file_name"])
    if len(frames) < 2:
        raise UnusableVideo(f"{video['file_name']}: a single frame, which has no flow")
    try:
        with Image.open(frames[0]) as image:  # of which only the header is read
            size = upright_size(image)[::-1]
    except (OSError, Image.DecompressionBombError) as error:
        raise UnusableVideo(f"{frames[0]}: not an image, or a damaged one") from error
    try:
        mark = fingerprint(frames)
    except OSError as error:
        raise UnusableVideo(f"{frames[-1]}: {error.strerror}") from error
    return FlowInfo(video["video"], len(frames), size, grid_size(size, estimator.scale), estimator.name, mark)


def is_written(out, info):
    """Whether ``out`` has just this flow, and all of it."""
    there = read_info(out, info.video)
    if there is None or there._replace(fingerprint=there.fingerprint or info.fingerprint) != info:
        return False
    try:
        FlowFiles(out).check(info.video, info.frames, info.frame_size)
    except UsageError:  # files that were cut off, as by copying
        return False
    return True


def check_kind(out, video, estimator):
    """Raise a UsageError for flow of a video by another estimator, or at another scale."""
    there = read_info(out, video)
    if there is None:
        return
    if (there.estimator, there.flow_size) != (estimator.name, grid_size(there.frame_size, estimator.scale)):
        raise UsageError(
            f"{Path(out, video)} has flow by {there.estimator} at 1/{there.scale:.3g} of the resolution, not by "
            f"{estimator.name} at 1/{estimator.scale}: choose another folder, or replace it with --overwrite."
        )
