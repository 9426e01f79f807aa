"""Define the arguments that several sub-commands share."""

import argparse

from ..command_line import OptionsAnywhere


def command_parser(name: str, description: str, epilog: str = "") -> OptionsAnywhere:
    """Return a parser for the sub-command ``name``."""
    return OptionsAnywhere(
        prog=f"pixpro-d2 {name}",
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def add_config(parser: OptionsAnywhere, option: str, default: str, explanation: str) -> None:
    """Add the option for a config under its own name, and under its names in the other programs."""
    names = dict.fromkeys((option, "--config", "--recipe", "--config-file"))
    parser.add_argument(*names, dest=option.removeprefix("--"), metavar="CONFIG", default=default, help=explanation)


def add_run_arguments(parser: OptionsAnywhere) -> None:
    """Add the arguments of every training, and last the KEY VALUE pairs."""
    parser.add_argument("--out", metavar="DIR", default="", help="folder of the run (default: below output)")
    parser.add_argument("--num-gpus", type=int, default=0, metavar="N", help="processes (default: one on each GPU)")
    parser.add_argument("--resume", action="store_true", help="resume the run in its folder, see --out")
    parser.add_argument(
        "--allow-changes", action="store_true", help="let --resume continue with another batch, length or learning rate"
    )
    parser.add_argument("--dry-run", action="store_true", help="try two iterations and report time and memory")
    add_options(parser)


def add_options(parser: OptionsAnywhere) -> None:
    """Add the KEY VALUE pairs."""
    opts = parser.add_argument(
        "opts", metavar="KEY VALUE", nargs=argparse.REMAINDER, help="config keys of this project and of detectron2"
    )
    opts.required = False  # argparse would name them among missing arguments


def flags(resume: bool, allow_changes: bool, dry_run: bool = False) -> list[str]:
    """Return the options that the launcher takes unchanged."""
    words = {"--resume": resume, "--allow-changes": allow_changes, "--dry-run": dry_run}
    return [flag for flag, given in words.items() if given]
