"""Check the frames, sizes and optical flow of a data set of videos."""

import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...flow_files import FlowFiles
from ...utils.errors import UnreadableImage, UsageError
from ..datasets.video import list_frames
from ..io.reader import header_source, read_image, read_size
from .stored_values import FileValues, read_values, value_problems


@dataclass
class VideoReport:
    """Hold the results of :func:`inspect_videos`."""

    frames: dict[str, int]  # name of the video -> number of its frames
    opened: int = 0  # number of decoded frames
    sizes: list[tuple[int, int]] = field(default_factory=list)  # (width, height) of the videos with decoded frames
    with_flow: int | None = None  # number of videos that have their optical flow; None if flow was not checked
    problems: list[str] = field(default_factory=list)  # sentences
    pixel_range: tuple[float, ...] = ()  # INPUT.PIXEL_RANGE
    values: list[FileValues] = field(default_factory=list)  # values of the decoded frames


def inspect_videos(
    dicts: Sequence[dict[str, Any]],
    flow: FlowFiles | None = None,
    sample: int | None = None,
    progress: Callable[[Iterable], Iterable] = iter,
    pixel_range: tuple[float, ...] = (),
) -> VideoReport:
    """Check the videos of a data set.

    Args:
        dicts: dataset dicts of :func:`pixpro_d2.data.datasets.video.load_videos`.
        flow: files that must have the flow of all videos; None skips the check. The flow of every video is compared
            with its frames, whatever ``sample`` is.
        sample: number of videos, evenly spaced, whose first and last frames are decoded; None decodes all
            frames of all videos.
        progress: wraps an iterable to show the progress.
        pixel_range: INPUT.PIXEL_RANGE of the config for the run.
    """
    report = VideoReport({record["video"]: record["num_frames"] for record in dicts}, pixel_range=pixel_range)
    report.with_flow = None if flow is None else 0
    skipped = flow.skipped if flow is not None else {}  # reads a file of one line for each video
    step = 1 if sample is None else max(1, -(-len(dicts) // sample))
    for i, record in enumerate(progress(dicts)):
        decoded, has_steps = i % step == 0, record["num_frames"] > 1
        paths = list_frames(record["file_name"]) if decoded or (flow is not None and has_steps) else []
        size = _check_frames(record, paths if sample is None else {paths[0], paths[-1]}, report) if decoded else None
        report.problems += _decimal_problems(record["file_name"], paths) if decoded else []
        if flow is not None and has_steps:
            if record["video"] in skipped:
                reason = skipped[record["video"]]
                report.problems.append(f"{record['file_name']} was skipped by extract_flow: {reason}")
            else:
                _check_flow(record, size if decoded else _header_size(paths[0], report), paths, flow, report)
    report.problems += value_problems(report.values, pixel_range)
    return report


def _check_frames(record: dict[str, Any], paths: Iterable[str], report: VideoReport) -> tuple[int, int] | None:
    """Check frames, and return their size (width, height); None if no frame is readable or the sizes differ."""
    sizes: set[tuple[int, int]] = set()
    for path in sorted(paths):
        try:
            sizes.add(read_image(path, report.pixel_range).size)
        except UnreadableImage as error:
            report.problems.append(f"unreadable image {error}")
        else:
            report.opened += 1
            report.values.append(read_values(header_source(path), report.pixel_range))
    if len(sizes) > 1:
        listed = ", ".join(f"{width} x {height}" for width, height in sorted(sizes))
        report.problems.append(f"{record['file_name']} has frames of several sizes: {listed} pixels")
    report.sizes.extend(sorted(sizes)[:1])
    return sizes.pop() if len(sizes) == 1 else None


def _decimal_problems(folder: str, paths: Sequence[str]) -> list[str]:
    """Return a problem if names end with decimal numbers that are not in the order of their values.

    A counter behind a point, padded with zeros or not, is no decimal number: its numbers that start with 0 are not
    longer than others.
    """
    stems = (os.path.splitext(os.path.basename(path))[0] for path in paths)
    found = filter(None, (re.search(r"\d\.(\d+)\D*$", stem) for stem in stems))
    names = {match[1]: match.string for match in found}
    shortest = min(names, key=len, default="")
    long = [digits for digits in names if digits.startswith("0") and len(digits) > len(shortest)]
    if not long:
        return []
    return [
        f"{folder} has frames named by decimal numbers of several lengths, such as {names[shortest]} and "
        f"{names[long[0]]}, but digits behind a point are sorted as a whole number: give every name as many digits"
    ]


def _header_size(path: str, report: VideoReport) -> tuple[int, int] | None:
    """Return the size (width, height) of a frame without decoding it; None if it is unreadable."""
    try:
        return read_size(path)
    except UnreadableImage as error:
        report.problems.append(f"unreadable image {error}")
        return None


def _check_flow(
    record: dict[str, Any],
    size: tuple[int, int] | None,
    paths: list[str],
    flow: FlowFiles,
    report: VideoReport,
) -> None:
    try:
        flow.check(record["video"], record["num_frames"], size and size[::-1], paths)
    except UsageError as error:
        report.problems.append(str(error))
    except OSError as error:
        reason = f"{error.filename} cannot be read ({error.strerror})"
        report.problems.append(f"{record['file_name']}: its flow was not compared, because {reason}")
    else:
        report.with_flow = (report.with_flow or 0) + 1
