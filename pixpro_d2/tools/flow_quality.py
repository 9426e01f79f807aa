"""Measure on rendered video how many of the pixels that optical flow matches are true matches.

    python -m pixpro_d2.tools.flow_quality [--videos N] [--frames F] [--size HxW] [--n-frames K] [--estimator dis]

The command draws pairs of views as pre-training on videos does. It compares the positive pairs of FlowCorrespondence
with the pairs of the true motion of the rendered video. It does so for three flows: exact at full resolution, exact as
in flow files, and the flow of the estimator. Each flow is combined with every kind of consistency.
"""

import argparse
import json
from collections.abc import Sequence
from typing import Any

from tabulate import tabulate

from ..command_line import ShownDefaults, at_least, one_sentence, positive, program
from ..flow import ESTIMATORS
from .render_video import frame_size

HEADERS = ("flow", "consistency", "pairs", "right %", "right off outlines %", "found %", "gone %", "trusted points %")


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog=program("flow-quality"),
        description="Compare the pixels that optical flow matches with the truth, on rendered video.",
        formatter_class=ShownDefaults,
    )
    parser.add_argument("--videos", type=positive, default=8, help="number of videos")
    parser.add_argument("--frames", type=int, default=20, help="frames of each video")
    parser.add_argument("--size", type=frame_size, default="160x320", metavar="HxW", help="size of the frames, pixels")
    parser.add_argument("--n-frames", type=int, default=6, metavar="K", help="as INPUT.PIXPRO.N_FRAMES")
    parser.add_argument("--views", type=positive, default=32, help="pairs of views of each video")
    parser.add_argument("--grid", type=positive, default=7, metavar="G", help="the views have G x G features")
    parser.add_argument("--estimator", choices=ESTIMATORS, default="dis", help="estimator of the flow to compare")
    parser.add_argument("--weights", metavar="FILE", help="weights of RAFT, as for extract_flow")
    parser.add_argument("--device", default="cpu", help="device of RAFT")
    parser.add_argument("--flow-scale", type=positive, default=8, metavar="S", help="flow at 1/S of the resolution")
    parser.add_argument("--alpha1", type=float, default=0.01, help="alpha1 of the consistency")
    parser.add_argument("--alpha2", type=float, default=0.5, help="alpha2 of the consistency, pixels^2")
    parser.add_argument("--seed", type=at_least(0), default=0, help="seed of the videos and views")
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


@one_sentence
def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line ``argv``, by default the arguments of the process."""
    args = build_parser().parse_args(argv)
    from ..extras.video.flow_comparison import measure  # these load PyTorch
    from ..flow.estimators import build_estimator

    rows = measure(
        args.videos,
        build_estimator(args.estimator, args.weights, args.device, args.flow_scale),
        args.frames,
        args.size,
        args.n_frames,
        args.views,
        args.grid,
        (args.alpha1, args.alpha2),
        args.seed,
    )
    if args.json:
        print(json.dumps(rows))
        return
    print(f"{rows[0]['true']} true pairs")
    print(tabulate([_line(row) for row in rows], headers=HEADERS, disable_numparse=True, stralign="right"))


def _line(row: dict[str, Any]) -> list[Any]:
    """Return a line of the table, with shares in %."""
    shares = (row[name] for name in ("precision", "precision_clear", "recall", "hidden", "valid"))
    return [row["flow"], row["consistency"], row["claimed"], *(x if x is None else f"{100 * x:.2f}" for x in shares)]


if __name__ == "__main__":
    main()
