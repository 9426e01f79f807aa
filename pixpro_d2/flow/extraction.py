"""Estimating the optical flow of folders of frames, and writing it."""

import errno
import logging
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from ..data.datasets.video import list_frames, load_videos
from ..data.reader import UnreadableImage, read_image
from ..errors import UsageError
from . import reference_files
from .grid import grid_size
from .native_files import FlowInfo, read_info, stream_flow, write_manifest
from .storage import FlowFiles

logger = logging.getLogger(__name__)

ORIENTATION, QUARTER_TURNS = 0x0112, (5, 6, 7, 8)  # of EXIF: values that swap width and height


class UnusableVideo(Exception):
    """A video that has no flow; the message names its folder, or the frame, and the reason."""


class Report(NamedTuple):
    """What became of the videos.

    Attributes:
        written (int), kept (int): videos whose flow was made now, and before.
        skipped (list[str]): why others have none, a message each.
    """

    written: int
    kept: int
    skipped: Sequence[str]


def extract(video_dir, out, estimator, batch=4):
    """Write the forward and backward flow of all videos of a folder, except those that are written already.

    Args:
        video_dir (str): folder of folders of frames, which follow each other as their names do.
        out (str): folder of the flow, see :mod:`.native_files`.
        estimator (Callable): see :mod:`.estimators`.
        batch (int): pairs of frames in one call of the estimator.

    Returns:
        Report:

    Raises:
        UsageError: for a folder without videos, or a disk that is or will be full; what was written stays, and is
            kept by the next call.
    """
    videos = load_videos(f"video:{video_dir}", video_dir)
    if reference_files.found_in(out):
        raise UsageError(f"{out} holds flow files of another kind, .pth: choose another folder.")
    Path(out).mkdir(parents=True, exist_ok=True)
    todo, kept, skipped = [], 0, []
    for video in videos:
        try:
            info = plan(video, estimator)
        except UnusableVideo as error:
            _skip(error, skipped)
            continue
        if is_written(out, info):
            kept += 1
        else:
            todo.append((video["file_name"], info))
    _check_space(out, [info for _, info in todo], kept)

    written = 0
    try:
        with tqdm(total=sum(info.frames - 1 for _, info in todo), desc="flow", unit="step") as progress:
            for folder, info in todo:
                try:
                    stream_flow(out, info, estimate(folder, info, estimator, batch, progress))
                    written += 1
                except UnusableVideo as error:
                    _skip(error, skipped)
        write_manifest(out)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise UsageError(
            f"The disk of {out} is full: free some of it and run the same again, which keeps the {kept + written} "
            "finished videos."
        ) from error
    return Report(written, kept, skipped)


def plan(video, estimator):
    """FlowInfo of the flow that a video (dict of ``load_videos``) is going to have.

    Raises:
        UnusableVideo: for less than two frames, or a first one without a size.
    """
    frames = list_frames(video["file_name"])
    if len(frames) < 2:
        raise UnusableVideo(f"{video['file_name']}: a single frame, which has no flow")
    try:
        with Image.open(frames[0]) as image:  # of which only the header is read
            size = image.height, image.width
            if image.getexif().get(ORIENTATION) in QUARTER_TURNS:
                size = size[::-1]
    except OSError as error:
        raise UnusableVideo(f"{frames[0]}: not an image, or a damaged one") from error
    return FlowInfo(video["video"], len(frames), size, grid_size(size, estimator.scale), estimator.name)


def is_written(out, info):
    """Whether ``out`` has just this flow, and all of it."""
    if read_info(out, info.video) != info:
        return False
    try:
        FlowFiles(out).check(info.video, info.frames, info.frame_size)
    except UsageError:  # files that were cut off, as by copying
        return False
    return True


def estimate(folder, info, estimator, batch, progress):
    """Yield the steps that :func:`.native_files.stream_flow` takes, at most ``batch`` at a time.

    Raises:
        UnusableVideo: for a frame that does not decode or is not of the size of the first.
    """
    paths = list_frames(folder)
    last = _read(paths[0], info.frame_size)[None]
    for start in range(1, len(paths), batch):
        second = torch.stack([_read(path, info.frame_size) for path in paths[start : start + batch]])
        first = torch.cat((last, second[:-1]))
        yield estimator(first, second).cpu(), estimator(second, first).cpu()
        last = second[-1:]
        progress.update(len(second))


def _read(path, size):
    """Frame (3, H, W) uint8 in RGB of the size (H, W)."""
    try:
        image = read_image(path)
    except UnreadableImage as error:
        raise UnusableVideo(str(error)) from error
    if (image.height, image.width) != size:
        raise UnusableVideo(
            f"{path}: {image.height} x {image.width} pixels (height x width), but the first frame of the video has "
            f"{size[0]} x {size[1]}"
        )
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def _skip(error, skipped):
    logger.warning(f"Skipped a video: {error}")
    skipped.append(str(error))


def _check_space(out, infos, kept):
    needed, free = sum(info.num_bytes for info in infos), shutil.disk_usage(out).free
    logger.info(
        f"{len(infos)} videos to do, {kept} are done; needs {needed / 1e9:.3g} GB, {free / 1e9:.3g} GB are free."
    )
    if needed > free:
        raise UsageError(
            f"The flow of {len(infos)} videos takes {needed / 1e9:.3g} GB, but {out} has {free / 1e9:.3g} GB left: "
            "free some, choose another folder, or a larger --scale."
        )
