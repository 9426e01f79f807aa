"""Write the optical flow of videos, for pre-training on them.

    python -m pixpro_d2.tools.extract_flow VIDEO_DIR OUT [--estimator raft_small --weights FILE --device cuda]
                                           [--pixel-range LOW HIGH] [--max-image-pixels N]
                                           [--part I/N] [--overwrite]

VIDEO_DIR has a folder of frames for each video. OUT gets the flow of each video between neighbouring frames in both
directions (pixpro_d2/flow_files/native.py). A repeated command continues an interrupted run. Several GPUs or machines
share the work if each of them processes another part of the videos. The GPUs of one machine need a --device each, such
as cuda:1. The command names and skips unusable videos, and then exits with 1. It finds the flow of a video by the name
of the video's folder, and refuses to replace the flow of another folder's frames.
"""

import argparse
import sys
from collections.abc import Sequence

from ..command_line import add_reading, one_sentence, positive, program
from ..flow import ESTIMATORS


def part(text: str) -> tuple[int, int]:
    """Parse ``I/N`` into two integers, 1 <= I <= N."""
    i, n = map(int, text.split("/"))
    if not 1 <= i <= n:
        raise ValueError
    return i, n


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog=program("extract-flow"),
        description="Write the optical flow of videos, for pre-training on them.",
    )
    parser.add_argument("video_dir", metavar="VIDEO_DIR", help="folder with a folder of frames for each video")
    parser.add_argument("out", metavar="OUT", help="folder for the flow, made if there is none")
    parser.add_argument("--estimator", choices=ESTIMATORS, default="dis", help="default: dis, which needs no weights")
    parser.add_argument(
        "--weights",
        metavar="FILE",
        help="state dict of torchvision's RAFT; by default the one in PyTorch's cache",
    )
    parser.add_argument("--device", default="cpu", help="device of RAFT: cpu (default), cuda, or a GPU such as cuda:1")
    parser.add_argument(
        "--scale", type=int, choices=(8, 4), default=8, help="pixels of a frame for each pixel of the flow (default 8)"
    )
    parser.add_argument("--batch", type=positive, default=4, help="pairs of frames at a time (default 4)")
    parser.add_argument(
        "--part", type=part, default=(1, 1), metavar="I/N", help="only the I-th of N parts of the videos: 1/N to N/N"
    )
    add_reading(parser, ", for frames of more than 8 bits")
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace flow in OUT by another estimator, scale or pixel range, or of other frames of the same name",
    )
    return parser


@one_sentence
def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line ``argv``, by default the arguments of the process."""
    args = build_parser().parse_args(argv)
    from detectron2.utils.logger import setup_logger  # these load PyTorch

    from ..config import default_config
    from ..data.io.reader import restrict_pillow
    from ..extras.video.extraction import extract
    from ..flow.estimators import build_estimator

    setup_logger(name="pixpro_d2")
    restrict_pillow(args.max_image_pixels or default_config().DATALOADER.MAX_IMAGE_PIXELS)
    estimator = build_estimator(args.estimator, args.weights, args.device, args.scale)
    options = args.batch, args.part, args.overwrite, tuple(args.pixel_range)
    report = extract(args.video_dir, args.out, estimator, *options)
    print(
        f"{args.out}: wrote the flow of {report.written} videos by {estimator.name}, kept that of {report.kept}, "
        f"skipped {len(report.skipped)} videos"
    )
    sys.exit(1 if report.skipped else 0)


if __name__ == "__main__":
    main()
