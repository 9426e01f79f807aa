"""Render synthetic videos with exact optical flow.

``python -m pixpro_d2.tools.render_video DIR`` writes for each video:

* ``frames/<video>/00001.jpg`` and so on;
* ``exact/<video>/forward.npy`` and ``backward.npy``: flow at full resolution, float32 (n - 1, 2, H, W) in pixels;
* ``exact/<video>/visible_forward.npy`` and ``visible_backward.npy``: bool (n - 1, H, W);
* labels of some frames in Cityscapes' layout; every fourth video is in its split ``val``.

``--flow-scale`` adds ``flow``: the same flow as files to pre-train from.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from ..command_line import ShownDefaults, at_least, one_sentence, program


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog=program("render-video"),
        description="Render synthetic videos with exact optical flow.",
        formatter_class=ShownDefaults,
    )
    parser.add_argument("out", metavar="DIR", help="folder to make, or to complete")
    parser.add_argument("--videos", type=int, default=8, help="number of videos")
    parser.add_argument("--frames", type=int, default=20, help="frames of each video")
    parser.add_argument("--size", type=frame_size, default="160x320", metavar="HxW", help="size of the frames, pixels")
    parser.add_argument("--seed", type=at_least(0), default=0, help="seed of the videos")
    parser.add_argument(
        "--flow-scale", type=int, metavar="S", help="write flow files too, at 1/S of the resolution: 1, 4, 8, ..."
    )
    parser.add_argument("--labelled", type=int, default=1, help="frames of each video to label")
    parser.add_argument("--plain", action="store_true", help="backgrounds without clutter")
    parser.add_argument("--no-arrays", action="store_true", help="write no flow and masks at full resolution")
    return parser


@one_sentence
def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line ``argv``, by default the arguments of the process."""
    args = build_parser().parse_args(argv)
    from ..extras.scenes.render_video import render_videos  # it loads PyTorch

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


def frame_size(text: str) -> tuple[int, int]:
    """Parse ``HxW`` into a height and a width."""
    height, width = map(int, text.lower().split("x"))
    return height, width


if __name__ == "__main__":
    main()
