"""Define the command line: each sub-command is a function of the parsed arguments, listed in :func:`main`."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from ...command_line import OptionsAnywhere
from ...data.io.reader import UnreadableImage
from ...launch_arguments import add_init_option
from ...utils.errors import UsageError
from ...visualization.pairs import STRIDES
from .data_pictures import flow, pairs
from .model_pictures import attention, features, matches, slots
from .predictions import predictions


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line ``argv``, by default the arguments of the process."""
    parser = OptionsAnywhere(
        prog="python -m pixpro_d2.tools.visualize",
        description="Pictures of what pre-training sees and learns, and of what a downstream model predicts.",
    )
    commands = parser.add_subparsers(required=True, dest="command", metavar="WHAT")
    images = (
        "image or folder, for videos a folder of folders of frames, or data set, such as voc:DIR@test; by default "
        "DATASETS.TRAIN"
    )
    for run in (pairs, flow, attention, features, matches, slots):
        _add_command(commands, run, "config of a pre-training", images)
    labelled = "labelled data set, such as voc:DIR@test; by default the first of DATASETS.TEST"
    _add_command(commands, predictions, "config of a detector or of a semantic segmentation", labelled)
    parsers = commands.choices
    add_init_option(parsers["predictions"])
    parsers["pairs"].add_argument(
        "--level", help=f"feature whose grid is shown ({', '.join(STRIDES)}); by default the first of "
        "MODEL.PIXPRO.IN_FEATURES")  # fmt: skip
    for name in ("attention", "features", "matches", "slots"):
        parsers[name].add_argument(
            "--weights", default="", metavar="FILE", help="checkpoint; by default MODEL.WEIGHTS, random if it is empty"
        )
        parsers[name].add_argument("--level", help="the only level of MODEL.PIXPRO.IN_FEATURES to show; by default all")
    parsers["predictions"].add_argument(
        "--weights", action="append", required=True, metavar="FILE", help="checkpoint, named after its folder; "
        "repeat the option to compare")  # fmt: skip
    parsers["predictions"].add_argument(
        "--min-score",
        type=float,
        default=0.5,
        metavar="S",
        help="lowest score of shown detections, by default 0.5",
    )
    args = parser.parse_args(argv)
    try:
        args.run(args)
    except (UsageError, UnreadableImage) as error:
        sys.exit(f"error: {error}")


def _add_command(
    commands: "argparse._SubParsersAction[OptionsAnywhere]",
    run: Callable[[argparse.Namespace], None],
    config: str,
    images: str,
) -> None:
    """Add the sub-command ``run``, named and described by the function, with the arguments of all sub-commands."""
    parser = commands.add_parser(run.__name__, help=run.__doc__, description=run.__doc__)
    parser.set_defaults(run=run)
    parser.add_argument("--config-file", required=True, metavar="FILE", help=config)
    parser.add_argument("--input", metavar="PATH", help=images)
    output = Path("output", run.__name__)
    parser.add_argument("--output", type=Path, default=output, metavar="DIR", help=f"by default {output}")
    parser.add_argument("--count", type=_positive, default=4, metavar="N", help="images to show, by default 4")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of all randomness, by default 0")
    parser.add_argument("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="config options, after the rest")


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not positive")
    return value
