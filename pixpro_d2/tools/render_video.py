"""Render synthetic videos with exact optical flow.

``python -m pixpro_d2.tools.render_video DIR`` writes, for each video, ``frames/<video>/00001.jpg`` and so on; in
``exact/<video>``, at full resolution, ``forward.npy`` and ``backward.npy``, float32 (n - 1, 2, H, W) in pixels, and
``visible_forward.npy`` and ``visible_backward.npy``, bool (n - 1, H, W); and some of its frames with labels, in
Cityscapes' layout, every fourth video in its split ``val``. ``--flow-scale`` adds ``flow``: the same flow as files to
pre-train from.
"""

import argparse
import os
import shutil
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ..data.datasets.video import list_frames
from ..data.scene_writers.video import grid_flow, write_arrays, write_frames, write_labels
from ..data.video_scenes import render_clip
from ..errors import UsageError
from ..flow import write_flow, write_manifest
from ..flow.native_files import fingerprint
from ..json_files import read_json, write_json

RECORD = "render_video.json"  # File with the options of the videos, in their folder.
FORMAT = 1  # Raised with every change of what is written, so that older videos are not taken for current ones.


def render_videos(
    out, videos=8, frames=20, size=(160, 320), seed=0, flow_scale=None, labelled=1, clutter=True, arrays=True
):
    """Render videos into a folder.

    Video ``i`` is ``describe_video(np.random.default_rng((seed, i)), ...)``, however many there are. A video whose
    frames are in place is finished: those that a folder already holds, rendered with these options, are kept.

    Args:
        out: folder of the videos; it may exist if it is empty or holds videos with these options.
        videos (int), frames (int): number of videos, and of frames in each.
        size (tuple[int, int]): height and width of the frames, pixels.
        seed (int): seed of the series of videos, not negative.
        flow_scale (int): also write flow files, at this fraction of the resolution; None for no such files.
        labelled (int): frames of each video to label; as of :func:`write_labels`.
        clutter (bool): whether the backgrounds are cluttered.
        arrays (bool): write the flow and the masks at full resolution.

    Returns:
        int: number of videos rendered.

    Raises:
        UsageError: for options that cannot be met, an ``out`` with anything else in it, or a full disk.
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


def main(argv=None):
    """Run the command line ``argv``, by default that of the process."""
    parser = argparse.ArgumentParser(
        prog="python -m pixpro_d2.tools.render_video",
        description="Render synthetic videos with exact optical flow.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("out", metavar="DIR", help="folder to make, or to complete")
    parser.add_argument("--videos", type=int, default=8, help="number of videos")
    parser.add_argument("--frames", type=int, default=20, help="frames of each video")
    parser.add_argument("--size", type=frame_size, default="160x320", metavar="HxW", help="of the frames, pixels")
    parser.add_argument("--seed", type=int, default=0, help="seed of the videos")
    parser.add_argument(
        "--flow-scale", type=int, metavar="S", help="write flow files too, at 1/S of the resolution: 1, 4, 8, ..."
    )
    parser.add_argument("--labelled", type=int, default=1, help="frames of each video to label")
    parser.add_argument("--plain", action="store_true", help="backgrounds without clutter")
    parser.add_argument("--no-arrays", action="store_true", help="leave out flow and masks at full resolution")
    args = parser.parse_args(argv)
    try:
        rendered = render_videos(
            args.out,
            args.videos,
            args.frames,
            args.size,
            args.seed,
            args.flow_scale,
            args.labelled,
            clutter=not args.plain,
            arrays=not args.no_arrays,
        )
    except UsageError as error:
        raise SystemExit(f"error: {error}") from None
    size = "x".join(map(str, args.size))
    print(f"{args.out}: rendered {rendered} of {args.videos} videos of {args.frames} frames, {size}; it holds")
    print(f"  frames, as data set video:{Path(args.out) / 'frames'}")
    for folder, what in (
        ("exact", "flow and masks of what stays visible, at full resolution"),
        ("flow", "flow files to pre-train from"),
    ):
        if (Path(args.out) / folder).exists():
            print(f"  {what}, in {Path(args.out) / folder}")
    for split in ("train", "val"):
        images = len(list(Path(args.out).glob(f"leftImg8bit/{split}/*/*.png")))
        if images:
            print(f"  labels of {images} frames, as data set cityscapes:{args.out}@{split}")


def frame_size(text):
    """``HxW`` as a tuple of two integers."""
    height, width = map(int, text.lower().split("x"))
    return height, width


def _check(options, videos):
    if min(videos, options["labelled"], options["seed"]) < 0 or not videos:
        raise UsageError("the seed and the numbers of frames to label must not be negative, that of videos positive")
    if options["frames"] < 2:
        raise UsageError(f"--frames is {options['frames']}; a video needs at least 2")
    scale = options["flow_scale"]
    if scale is not None and (scale < 1 or any(side % scale for side in options["size"])):
        height, width = options["size"]
        raise UsageError(f"--flow-scale is {scale}; it must divide the height {height} and the width {width}")


def _name(number):
    return f"{number:06d}"


def _write_video(out, number, options):
    """Write one video beside its final place and move it there when it is complete."""
    video = _name(number)
    rng = np.random.default_rng((options["seed"], number))
    clip = render_clip(rng, options["frames"], *options["size"], options["clutter"])
    partial = out / f".{video}.partial"
    shutil.rmtree(partial, ignore_errors=True)  # of a run that was killed
    partial.mkdir()
    try:
        write_labels(partial, "val" if number % 4 == 3 else "train", clip, number, options["labelled"])
        if options["arrays"]:
            write_arrays(partial / "exact" / video, clip)
        write_frames(partial / "frames" / video, clip)
        if options["flow_scale"]:
            mark = fingerprint(list_frames(partial / "frames" / video))
            write_flow(out / "flow", video, *grid_flow(clip, options["flow_scale"]), options["size"], "exact", mark)
        for pattern in ("*/*/*/*", "exact/*", "frames/*"):  # labels, and the frames last: they mark a finished video
            for path in partial.glob(pattern):
                target = out / path.relative_to(partial)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.rmtree(target, ignore_errors=True)  # of a video that was not finished
                os.replace(path, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


if __name__ == "__main__":
    main()
