"""Render a folder of videos with exact flow and labels."""

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from ...data.datasets.video import list_frames
from ...flow_files import write_flow, write_manifest
from ...flow_files.native import fingerprint
from ...utils.errors import UsageError
from ...utils.files import read_json, write_json
from .video_scene import render_clip
from .writers.video import check_flow_scale, grid_flow, write_arrays, write_frames, write_labels

RECORD = "render_video.json"  # file with the options of the videos, in their folder
FORMAT = 1  # increase with every change of the files, so that older videos are not reused


def render_videos(
    out: str | Path,
    videos: int = 8,
    frames: int = 20,
    size: tuple[int, int] = (160, 320),
    seed: int = 0,
    flow_scale: int | None = None,
    labelled: int = 1,
    clutter: bool = True,
    arrays: bool = True,
) -> int:
    """Render videos into a folder.

    Video ``i`` is ``describe_video(np.random.default_rng((seed, i)), ...)`` for any number of videos. A video is
    finished when its frames are in place. Finished videos with the same options are kept.

    Args:
        out: folder of the videos; it may exist if it is empty or holds videos with these options.
        videos: number of videos.
        frames: number of frames in each video.
        size: height and width of the frames, pixels.
        seed: seed of the series of videos, not negative.
        flow_scale: also write flow files, at this fraction of the resolution; None for no flow files.
        labelled: labelled frames of each video; see :func:`write_labels`.
        clutter: whether the backgrounds are cluttered.
        arrays: write the flow and the masks at full resolution.

    Returns:
        Number of rendered videos.

    Raises:
        UsageError: if the options are invalid, ``out`` holds anything else, or the disk is full.
    """
    out = Path(out).resolve()
    options = {"frames": frames, "size": list(size), "seed": seed, "flow_scale": flow_scale, "labelled": labelled}
    options |= {"clutter": bool(clutter), "arrays": bool(arrays), "format": FORMAT}
    _check(options, videos)
    if out.exists() and (not out.is_dir() or any(out.iterdir())) and read_json(out / RECORD) != options:
        raise UsageError(f"{out} exists and holds something else: remove it or choose another folder")

    missing = [number for number in range(videos) if not (out / "frames" / _name(number)).exists()]
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_json(out / RECORD, options)
        for number in tqdm(missing, desc="render", unit="video"):
            _write_video(out, number, options)
        if flow_scale:
            write_manifest(out / "flow")
    except OSError as error:
        raise UsageError(f"the videos in {out} cannot be completed: {error}") from error
    return len(missing)


def _check(options: dict[str, Any], videos: int) -> None:
    if min(videos, options["labelled"], options["seed"]) < 0 or not videos:
        raise UsageError("the seed and the numbers of frames to label must not be negative, that of videos positive")
    if options["frames"] < 2:
        raise UsageError(f"--frames is {options['frames']}; a video needs at least 2")
    if options["flow_scale"] is not None:
        check_flow_scale(options["flow_scale"], options["size"])


def _name(number: int) -> str:
    return f"{number:06d}"


def _write_video(out: Path, number: int, options: dict[str, Any]) -> None:
    """Write one video beside its final place, and move the complete video there."""
    video = _name(number)
    rng = np.random.default_rng((options["seed"], number))
    height, width = options["size"]
    clip = render_clip(rng, options["frames"], height, width, options["clutter"])
    partial = out / f".{video}.partial"
    shutil.rmtree(partial, ignore_errors=True)  # left behind by a killed run
    partial.mkdir()
    try:
        if options["labelled"]:  # needs cityscapesscripts
            write_labels(partial, "val" if number % 4 == 3 else "train", clip, number, options["labelled"])
        if options["arrays"]:
            write_arrays(partial / "exact" / video, clip)
        write_frames(partial / "frames" / video, clip)
        if options["flow_scale"]:
            mark = fingerprint(list_frames(str(partial / "frames" / video)))
            write_flow(out / "flow", video, *grid_flow(clip, options["flow_scale"]), options["size"], "exact", mark)
        for pattern in ("*/*/*/*", "exact/*", "frames/*"):  # frames last: they mark a finished video
            for path in partial.glob(pattern):
                target = out / path.relative_to(partial)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.rmtree(target, ignore_errors=True)  # left behind by an unfinished video
                os.replace(path, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
