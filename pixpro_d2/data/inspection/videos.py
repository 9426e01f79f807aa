"""Checks of a data set of videos: frames, sizes, optical flow."""

from dataclasses import dataclass, field

from ...utils.errors import UsageError
from ..datasets.video import list_frames
from ..io.reader import UnreadableImage, header_source, read_image
from .stored_values import StoredValues


@dataclass
class VideoReport:
    """What :func:`inspect_videos` found."""

    frames: dict  # name of the video -> number of its frames
    opened: int = 0  # frames that were decoded
    sizes: list = field(default_factory=list)  # (width, height) of the videos whose frames were
    with_flow: int | None = None  # videos that have their optical flow; None where it was not asked for
    problems: list = field(default_factory=list)  # sentences
    pixel_range: tuple = ()  # of the config
    values: StoredValues = field(default_factory=StoredValues)  # of the decoded frames


def inspect_videos(dicts, flow=None, sample=None, progress=iter, pixel_range=()):
    """Check videos.

    Args:
        dicts (list[dict]): of :func:`pixpro_d2.data.datasets.video.load_videos`.
        flow (FlowFiles | None): check that all of them have their flow in it.
        sample (int | None): number of videos, evenly spaced, whose first and last frames are opened; None opens all
            frames of all.
        progress (Callable[[Iterable], Iterable]): shows the progress.
        pixel_range (tuple): INPUT.PIXEL_RANGE of the config that is to be used.

    Returns:
        VideoReport:
    """
    report = VideoReport({record["video"]: record["num_frames"] for record in dicts}, pixel_range=pixel_range)
    report.with_flow = None if flow is None else 0
    step = 1 if sample is None else max(1, -(-len(dicts) // sample))
    for i, record in enumerate(progress(dicts)):
        size = paths = None
        if i % step == 0:
            paths = list_frames(record["file_name"])
            size = _check_frames(record, paths if sample is None else {paths[0], paths[-1]}, report)
        if flow is not None and record["num_frames"] > 1:
            _check_flow(record, size, paths, flow, report)
    report.problems += report.values.problems(pixel_range)
    return report


def _check_frames(record, paths, report):
    """Size (width, height) of the frames, None where there is none or more than one."""
    sizes = set()
    for path in sorted(paths):
        try:
            sizes.add(read_image(path, report.pixel_range).size)
        except UnreadableImage as error:
            report.problems.append(f"unreadable image {error}")
        else:
            report.opened += 1
            report.values.add(header_source(path))
    if len(sizes) > 1:
        listed = ", ".join(f"{width} x {height}" for width, height in sorted(sizes))
        report.problems.append(f"{record['file_name']} has frames of several sizes: {listed} pixels")
    report.sizes.extend(sorted(sizes)[:1])
    return sizes.pop() if len(sizes) == 1 else None


def _check_flow(record, size, paths, flow, report):
    if record["video"] in flow.skipped:
        report.problems.append(f"{record['file_name']} was left out of the flow: {flow.skipped[record['video']]}")
        return
    try:
        flow.check(record["video"], record["num_frames"], size and size[::-1], paths)
    except UsageError as error:
        report.problems.append(str(error))
    else:
        report.with_flow += 1
