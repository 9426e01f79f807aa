"""Parse the command line of train_net.py without PyTorch and detectron2, which take seconds to load."""

import argparse
import re
import shlex
import sys
from pathlib import Path

from .command_line import OptionsAnywhere
from .config_files import start_names
from .utils.errors import UsageError

EXAMPLES = """examples:
  --config-file pretrain/quickstart DATASETS.TRAIN images:my_photos
  --config-file pretrain/pixpro_fpn --num-gpus 8 SOLVER.BASE_LR 2.0
  --config-file pretrain/pixpro_fpn --num-gpus 8 --num-machines 2 --machine-rank 0 --dist-url tcp://HOST:PORT"""
_IN_PLACE = "start, in place of the config's own; NAME is appended to OUTPUT_DIR"


def argument_parser(prog: str | None = None) -> OptionsAnywhere:
    """Return a parser of the options of detectron2 and this project; ``--dist-url`` is a free port by default."""
    parser = OptionsAnywhere(
        prog=prog,
        description="Train or evaluate what a config describes.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--config-file", default="", metavar="FILE", help="a file, or the name of a config such as pretrain/quickstart")
    add_init_option(parser)
    add("--resume", action="store_true", help="resume from the last checkpoint in OUTPUT_DIR")
    add("--eval-only", action="store_true", help="evaluate MODEL.WEIGHTS, train nothing")
    add("--num-gpus", type=int, default=1, help="processes on each machine, on the CPU too (default: 1)")
    add("--num-machines", type=int, default=1, help="number of machines (default: 1)")
    add("--machine-rank", type=int, default=0, help="number of this machine, from 0")
    add("--dist-url", default="auto", help="where processes meet: tcp://HOST:PORT of machine 0")
    add(
        "--dry-run",
        action="store_true",
        help="print config, schedule and data set sizes, try two iterations, report time and memory; write nothing",
    )
    add(
        "--allow-changes",
        action="store_true",
        help="let --resume continue with changed values of learning, such as the learning rate",
    )
    add("opts", metavar="KEY VALUE", nargs=argparse.REMAINDER, default=None, help="config keys of pixpro_d2/config.py")
    return parser


def add_init_option(parser: argparse.ArgumentParser, purpose: str = _IN_PLACE) -> None:
    """Add ``--init`` to the parser of a command that takes a recipe; ``purpose`` begins the help."""
    parser.add_argument("--init", default="", metavar="NAME", help=f"{purpose}: {', '.join(start_names())}")


def check_arguments(args: argparse.Namespace) -> None:
    """Check the arguments that the parser does not check: config, number of processes, and options among the pairs.

    Raises:
        UsageError: for a mistake in the arguments.
    """
    if args.num_gpus < 1 or args.num_machines < 1:
        raise UsageError(
            "--num-gpus (processes on each machine, on the CPU too) and --num-machines must be at least 1."
        )
    if not 0 <= args.machine_rank < args.num_machines:
        raise UsageError(
            f"--machine-rank is {args.machine_rank}; it numbers the {args.num_machines} of --num-machines from 0."
        )
    if args.dist_url == "auto" and args.num_machines > 1:
        raise UsageError("Several machines need the address of machine 0: add --dist-url tcp://HOST:PORT on all.")
    for word in args.opts:
        if word.startswith("--"):
            raise UsageError(f"There is no option '{word}': the options are listed by --help.")
    if not args.config_file:
        raise UsageError("The command names no config: add --config-file configs/TASK/NAME.yaml.")


def command_of_process() -> str:
    """Return the command line of this process."""
    return " ".join(["python", *sys.orig_argv[1:]])


def command_of(args: argparse.Namespace) -> str:
    """Return a shell command line that launches a run with the arguments ``args``.

    The launcher is train_net.py if it started this process; otherwise ``pixpro-d2 train``, which needs no checkout.
    """
    launcher = "python train_net.py" if Path(sys.argv[0]).name == "train_net.py" else "pixpro-d2 train"
    parser, words = argument_parser(), launcher.split()
    for name, value in vars(args).items():
        if name == "opts" or value == parser.get_default(name):
            continue
        words.append("--" + name.replace("_", "-"))
        words += [] if value is True else [str(value)]
    return " ".join(map(_quote, [*words, *map(str, args.opts)]))


def _quote(word: str) -> str:
    """Quote a word for a shell; use double quotes for Python's tuples of strings, because they are easier to read."""
    return f'"{word}"' if "'" in word and not re.search(r'["$`\\!]', word) else shlex.quote(word)
