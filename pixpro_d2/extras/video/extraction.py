"""Estimate the optical flow of folders of frames, and write it to files."""

import errno
import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from tqdm import tqdm

from ...data.datasets.video import load_videos
from ...data.io.reader import read_image
from ...engine.configuration.config_checks import check_pixel_range
from ...flow.dis import DIS
from ...flow.raft import RAFT
from ...flow_files import native as native_files
from ...flow_files import reference as reference_files
from ...flow_files.native import FlowInfo, restore, stream_flow, write_manifest
from ...utils.errors import UnreadableImage, UsageError
from .planning import UnusableVideo, check_replaceable, frames_of, is_written, plan

FlowEstimator = DIS | RAFT
Reasons = dict[str, str | None]  # reason of each skipped video, None for videos with flow

logger = logging.getLogger(__name__)


class Report(NamedTuple):
    """Count the videos by outcome.

    Attributes:
        written: videos whose flow was written now.
        kept: videos whose flow was written before.
        skipped: reason by the name of each skipped video.
    """

    written: int
    kept: int
    skipped: dict[str, str]


def extract(
    video_dir: str,
    out: str,
    estimator: FlowEstimator,
    batch: int = 4,
    part: tuple[int, int] = (1, 1),
    overwrite: bool = False,
    pixel_range: tuple[float, ...] = (),
) -> Report:
    """Write the forward and backward flow of all videos of a folder, except finished videos.

    Args:
        video_dir: folder of folders of frames; frames are in the order of their names.
        out: folder of the flow, see :mod:`pixpro_d2.flow_files.native`.
        estimator: see :mod:`pixpro_d2.flow.estimators`.
        batch: pairs of frames in one call of the estimator.
        part: (i, n) for the i-th, from 1, of n parts of the videos; n processes can share the work.
        overwrite: replace flow of another estimator, scale or pixel range, and of frames of another folder.
        pixel_range: INPUT.PIXEL_RANGE of the training, for frames of more than 8 bits.

    Raises:
        UsageError: if the folder has no videos, ``pixel_range`` is wrong, ``out`` has flow that only ``overwrite``
            replaces, or the disk is full or cannot be written. Finished videos stay, and the next call keeps them.
    """
    check_pixel_range("--pixel-range", pixel_range)
    try:
        everything = load_videos(f"video:{video_dir}", video_dir)
        videos = everything[part[0] - 1 :: part[1]]
        if reference_files.found_in(out):
            raise UsageError(f"{out} holds flow files of another kind, .pth: choose another folder.")
        Path(out).mkdir(parents=True, exist_ok=True)
        todo, reasons = _survey(videos, out, estimator, overwrite, pixel_range)
        kept = len(reasons) - len(_skipped(reasons))
        others = [video for i, video in enumerate(everything) if i % part[1] != part[0] - 1]
        _check_space(out, [info for _, info in todo], kept, others, part[1])
        try:
            _write(todo, out, estimator, batch, reasons, pixel_range)
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


def _survey(
    videos: Sequence[dict[str, Any]],
    out: str,
    estimator: FlowEstimator,
    overwrite: bool,
    pixel_range: tuple[float, ...],
) -> tuple[list[tuple[str, FlowInfo]], Reasons]:
    """Check the videos before any flow is made.

    Returns:
        (folder of frames, FlowInfo) of each video to process; and the reasons of all other videos, None for videos that
        already have flow.
    """
    todo: list[tuple[str, FlowInfo]] = []
    reasons: Reasons = {}
    for video in tqdm(videos, desc="look", unit="video"):
        name = video["video"]
        try:
            info = plan(video, estimator, pixel_range)
        except UnusableVideo as error:
            _skip(name, error, reasons)
            continue
        restore(out, name)
        if not overwrite:
            check_replaceable(out, info, estimator)
        if is_written(out, info):
            reasons[name] = None
        else:
            todo.append((video["file_name"], info))
    return todo, reasons


def _write(
    todo: Sequence[tuple[str, FlowInfo]],
    out: str,
    estimator: FlowEstimator,
    batch: int,
    reasons: Reasons,
    pixel_range: tuple[float, ...],
) -> None:
    """Write the flow of the videos ``todo``, and complete ``reasons``; see :func:`_survey`."""
    with tqdm(total=sum(info.frames - 1 for _, info in todo), desc="flow", unit="step") as progress:
        for folder, info in todo:
            end = progress.n + info.frames - 1
            try:
                stream_flow(out, info, estimate(folder, info, estimator, batch, progress, pixel_range))
                reasons[info.video] = None
            except UnusableVideo as error:
                _skip(info.video, error, reasons)
                progress.update(end - progress.n)


def estimate(
    folder: str,
    info: FlowInfo,
    estimator: FlowEstimator,
    batch: int,
    progress: tqdm,
    pixel_range: tuple[float, ...],
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield the steps for :func:`pixpro_d2.flow_files.native.stream_flow`, at most ``batch`` at a time.

    Raises:
        UnusableVideo: if a frame does not decode or differs in size from the first frame, or the folder has changed.
    """
    paths = frames_of(folder)
    if len(paths) != info.frames:
        raise UnusableVideo(f"{folder}: {len(paths)} frames, but {info.frames} a moment ago")
    last = _read(paths[0], info.frame_size, pixel_range)[None]
    for start in range(1, len(paths), batch):
        second = torch.stack([_read(path, info.frame_size, pixel_range) for path in paths[start : start + batch]])
        first = torch.cat((last, second[:-1]))
        yield estimator(first, second).cpu(), estimator(second, first).cpu()
        last = second[-1:]
        progress.update(len(second))


def _read(path: str, size: tuple[int, ...], pixel_range: tuple[float, ...]) -> torch.Tensor:
    """Read a frame (3, H, W) uint8 in RGB of the size (H, W)."""
    try:
        image = read_image(path, pixel_range)
    except UnreadableImage as error:
        raise UnusableVideo(str(error)) from error
    if (image.height, image.width) != size:
        raise UnusableVideo(
            f"{path}: {image.height} x {image.width} pixels (height x width), but the first frame of the video has "
            f"{size[0]} x {size[1]}"
        )
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def _skip(video: str, error: UnusableVideo, reasons: Reasons) -> None:
    logger.warning(f"Skipped a video: {error}")
    reasons[video] = str(error)


def _skipped(reasons: Reasons) -> dict[str, str]:
    return {video: reason for video, reason in reasons.items() if reason}


def _check_space(out: str, infos: Sequence[FlowInfo], kept: int, others: Sequence[dict[str, Any]], parts: int) -> None:
    """Check that the disk has space for the flow of ``infos``, and for the flow that ``others`` still need.

    Args:
        out: existing folder of the flow.
        infos: flow to write.
        kept: number of videos that have flow.
        others: dataset dicts of the videos in other parts. Each of their steps counts as an average step of ``infos``.
        parts: number of parts, for messages.

    Raises:
        UsageError: if the space is too small.
    """
    done = native_files.listed(out) | native_files.read_skipped(out).keys()
    steps = sum(video["num_frames"] - 1 for video in others if video["video"] not in done)
    per_step = sum(info.num_bytes for info in infos) / max(1, sum(info.frames - 1 for info in infos))
    needed, free = _needed_bytes(out, infos) + steps * per_step, shutil.disk_usage(out).free
    whole = f" for all {parts} parts" if parts > 1 else ""
    logger.info(
        f"{len(infos)} videos to do, {kept} are done; needs {needed / 1e9:.3g} GB{whole}, {free / 1e9:.3g} GB are free."
    )
    if needed > free:
        what = f"the videos to do in all {parts} parts" if parts > 1 else f"{len(infos)} videos"
        raise UsageError(
            f"The flow of {what} takes {needed / 1e9:.3g} GB, but {out} has {free / 1e9:.3g} GB "
            "left: free some, choose another folder, or a larger --scale."
        )


def _needed_bytes(out: str, infos: Sequence[FlowInfo]) -> int:
    """Return the largest number of bytes by which ``out`` grows while flow is written or replaced, one by one."""
    growth = largest = 0
    for info in infos:
        largest = max(largest, growth + info.num_bytes)
        replaced = filter(os.path.isfile, native_files.paths(out, info.video))
        growth += info.num_bytes - sum(map(os.path.getsize, replaced))
    return largest
