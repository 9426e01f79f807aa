"""Turn videos into folders of frames.

python -m pixpro_d2.tools.prepare_video SRC DST --fps 10 [--short-side S] [--workers N] [--quality Q]

SRC is a video, or a folder with videos at any depth. The command writes the frames of each video to
DST/<video>/00001.jpg, ... and lists all videos in DST/manifest.json. Several videos are processed at a time. <video> is
the path below SRC without the extension, folders joined by '_'. A repeated command skips finished videos, and makes new
frames of a video whose size has changed. The command names and skips unusable videos, and then exits with 1.
``video:DST`` is the data set to train on.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from ..command_line import positive, program
from ..extras.video import EXTENSIONS
from ..utils.errors import UsageError
from ..utils.machine import usable_cores


def rate(text: str) -> float:
    """Parse a positive, finite number; the ``type`` of an argument."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not positive")
    return value


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(prog=program("prepare-video"), description="Turn videos into folders of frames.")
    parser.add_argument("source", metavar="SRC", help=f"video, or folder of videos ({', '.join(EXTENSIONS)})")
    parser.add_argument("target", metavar="DST", type=Path, help="folder for the folders of frames")
    parser.add_argument("--fps", type=rate, required=True, metavar="F", help="frames a second, e.g. 10")
    parser.add_argument("--short-side", type=positive, metavar="S", help="scale larger frames down, in pixels")
    parser.add_argument("--workers", type=positive, default=usable_cores(), metavar="N", help="videos at a time")
    parser.add_argument("--quality", type=int, choices=range(1, 101), default=95, metavar="Q", help="JPEG quality")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line ``argv``, by default the arguments of the process."""
    args = build_parser().parse_args(argv)
    from ..extras.video.preparation import find_videos, prepare  # it loads OpenCV

    asked = {"fps": args.fps, "short_side": args.short_side, "quality": args.quality}
    try:
        videos = find_videos(args.source)
        records, failures = prepare(videos, args.target, asked, args.workers)
    except (UsageError, OSError) as error:
        raise SystemExit(f"error: {error}") from None
    except KeyboardInterrupt:
        print("stopped; the same command continues", file=sys.stderr)
        raise SystemExit(130) from None  # as a shell reports a program that Ctrl-C has ended
    frames, before = sum(record["frames"] for record in records), len(videos) - len(records) - len(failures)
    print(f"{args.target}: {frames} frames of {len(records)} videos; {before} videos were there before")
    if failures:
        print(f"{len(failures)} of {len(videos)} videos skipped:", *failures, sep="\n  ")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
