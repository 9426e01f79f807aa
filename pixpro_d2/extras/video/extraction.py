"""Estimating the optical flow of folders of frames, and writing it."""

import errno
import logging
import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from tqdm import tqdm

from ...data.datasets.video import load_videos
from ...data.io.reader import UnreadableImage, read_image
from ...flow_files import reference as reference_files
from ...flow_files.native import restore, stream_flow, write_manifest
from ...utils.errors import UsageError
from .planning import UnusableVideo, check_kind, frames_of, is_written, plan

logger = logging.getLogger(__name__)


class Report(NamedTuple):
    """What became of the videos.

    Attributes:
        written (int), kept (int): videos whose flow was made now, and before.
        skipped (dict[str, str]): names of the others, and why they have none.
    """

    written: int
    kept: int
    skipped: dict


def extract(video_dir, out, estimator, batch=4, part=(1, 1), overwrite=False):
    """Write the forward and backward flow of all videos of a folder, except those that are written already.

    Args:
        video_dir (str): folder of folders of frames, which follow each other as their names do.
        out (str): folder of the flow, see :mod:`.native_files`.
        estimator (Callable): see :mod:`.estimators`.
        batch (int): pairs of frames in one call of the estimator.
        part (tuple[int, int]): (i, n) for the i-th, from 1, of n parts of the videos, which n processes can do at once.
        overwrite (bool): replace flow of another estimator or scale.

    Returns:
        Report:

    Raises:
        UsageError: for a folder without videos; flow of another estimator or scale in ``out``; a disk that is or will
            be full, or cannot be written. What was written stays, and is kept by the next call.
    """
    try:
        videos = load_videos(f"video:{video_dir}", video_dir)[part[0] - 1 :: part[1]]
        if reference_files.found_in(out):
            raise UsageError(f"{out} holds flow files of another kind, .pth: choose another folder.")
        Path(out).mkdir(parents=True, exist_ok=True)
        todo, reasons = _survey(videos, out, estimator, overwrite)
        kept = len(reasons) - len(_skipped(reasons))
        _check_space(out, [info for _, info in todo], kept)
        try:
            _write(todo, out, estimator, batch, reasons)
        finally:
            write_manifest(out, reasons)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UsageError(
                f"The disk of {out} is full: free some of it and run the same again, which keeps the finished videos."
            ) from error
        raise UsageError(
            f"{error.filename or out} cannot be read or written ({error.strerror or error}): choose another folder, or "
            "mend it and run the same again, which keeps the finished videos."
        ) from error
    skipped = _skipped(reasons)
    return Report(len(videos) - kept - len(skipped), kept, skipped)


def _survey(videos, out, estimator, overwrite):
    """Look at the videos before anything is made.

    Returns:
        tuple[list, dict]: what there is to do, (folder of frames, FlowInfo) each; and for the names of the other videos
        why they can have no flow, None for those that have it already.
    """
    todo, reasons = [], {}
    for video in tqdm(videos, desc="look", unit="video"):
        name = video["video"]
        try:
            info = plan(video, estimator)
        except UnusableVideo as error:
            _skip(name, error, reasons)
            continue
        restore(out, name)
        if not overwrite:
            check_kind(out, name, estimator)
        if is_written(out, info):
            reasons[name] = None
        else:
            todo.append((video["file_name"], info))
    return todo, reasons


def _write(todo, out, estimator, batch, reasons):
    """Make the flow of the videos ``todo``, and complete ``reasons``, both of :func:`_survey`."""
    with tqdm(total=sum(info.frames - 1 for _, info in todo), desc="flow", unit="step") as progress:
        for folder, info in todo:
            end = progress.n + info.frames - 1
            try:
                stream_flow(out, info, estimate(folder, info, estimator, batch, progress))
                reasons[info.video] = None
            except UnusableVideo as error:
                _skip(info.video, error, reasons)
                progress.update(end - progress.n)


def estimate(folder, info, estimator, batch, progress):
    """Yield the steps that :func:`.native_files.stream_flow` takes, at most ``batch`` at a time.

    Raises:
        UnusableVideo: for a frame that does not decode or is not of the size of the first, or a folder that changed.
    """
    paths = frames_of(folder)
    if len(paths) != info.frames:
        raise UnusableVideo(f"{folder}: {len(paths)} frames, but {info.frames} a moment ago")
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


def _skip(video, error, reasons):
    logger.warning(f"Skipped a video: {error}")
    reasons[video] = str(error)


def _skipped(reasons):
    return {video: reason for video, reason in reasons.items() if reason}


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
