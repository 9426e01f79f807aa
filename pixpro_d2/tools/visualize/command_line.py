"""Define the command line: each sub-command is a function of the parsed arguments, listed in ``PICTURES``."""

import argparse
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

from ...command_line import OptionsAnywhere, at_least, one_sentence, positive, program
from ...launch_arguments import add_init_option

# sub-command -> (module, which has a function of the same name, purpose)
PICTURES = {
    "pairs": (
        ".data_pictures",
        "Show two views of an image, or of two frames of a video, and their positive pairs; needs no model.",
    ),
    "flow": (
        ".data_pictures",
        "Show the optical flow between the ends of runs of video frames, and the part that training uses.",
    ),
    "attention": (".model_pictures", "Show the attention of the pixel propagation module for a few pixels of a view."),
    "features": (
        ".model_pictures",
        "Show the dense features of all images as colours, by their three principal components.",
    ),
    "matches": (".model_pictures", "Show which pixels of two views the features match, against the true matches."),
    "slots": (
        ".model_pictures",
        "Show which prototype of SlotCon wins each pixel: a segmentation that needed no label.",
    ),
    "predictions": (
        ".predictions",
        "Show detections or segmentations of one or several models beside the ground truth.",
    ),
}


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = OptionsAnywhere(
        prog=program("visualize"),
        description="Pictures of what pre-training sees and learns, and of what a downstream model predicts.",
    )
    commands = parser.add_subparsers(required=True, dest="command", metavar="WHAT")
    images = (
        "image or folder, for videos a folder of folders of frames, or data set, such as voc:DIR@test; by default "
        "DATASETS.TRAIN"
    )
    for name in ("pairs", "flow", "attention", "features", "matches", "slots"):
        _add_command(commands, name, "config of a pre-training", images)
    labelled = "labelled data set, such as voc:DIR@test; by default the first of DATASETS.TEST"
    _add_command(commands, "predictions", "config of a detector or of a semantic segmentation", labelled)
    parsers = commands.choices
    add_init_option(parsers["predictions"], "start of the models, for the input that they expect")
    parsers["pairs"].add_argument(
        "--level", help="feature whose grid is shown, such as res5, p3 or s4; by default the first of "
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
    return parser


@one_sentence
def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line ``argv``, by default the arguments of the process."""
    args = build_parser().parse_args(argv)
    draw = getattr(import_module(PICTURES[args.command][0], __package__), args.command)
    draw(args)


def _add_command(
    commands: "argparse._SubParsersAction[OptionsAnywhere]",
    name: str,
    config: str,
    images: str,
) -> None:
    """Add a sub-command of ``PICTURES`` with the arguments of all sub-commands."""
    _, purpose = PICTURES[name]
    parser = commands.add_parser(name, help=purpose, description=purpose)
    parser.add_argument("--config-file", required=True, metavar="FILE", help=config)
    parser.add_argument("--input", metavar="PATH", help=images)
    output = Path("output", name)
    parser.add_argument("--output", type=Path, default=output, metavar="DIR", help=f"by default {output}")
    parser.add_argument("--count", type=positive, default=4, metavar="N", help="images to show, by default 4")
    parser.add_argument("--seed", type=at_least(0), default=0, metavar="N", help="seed of all randomness, by default 0")
    parser.add_argument("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="config options, after the rest")
