"""The command line of train_net.py."""

from detectron2.engine import default_argument_parser

from ..command_line import OptionsAnywhere
from ..errors import UsageError
from .starts import names


def argument_parser():
    """detectron2's parser and the options of this project, with a free port where ``--dist-url`` is not given."""
    theirs = default_argument_parser()
    parser = OptionsAnywhere(
        parents=[theirs], add_help=False, epilog=theirs.epilog, formatter_class=theirs.formatter_class
    )
    parser.set_defaults(dist_url="auto")
    add_init_option(parser)
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="print config, schedule and data set sizes, try two iterations, tell time and memory; write nothing",
    )
    parser.add_argument(
        "--allow-changes",
        action="store_true",
        help="let --resume continue with changed values of learning, such as the learning rate",
    )
    return parser


def add_init_option(parser):
    """Add ``--init`` to a parser of commands that take a recipe."""
    parser.add_argument(
        "--init",
        default="",
        metavar="NAME",
        help=f"start in place of the config's own, which is appended to OUTPUT_DIR: {', '.join(names())}",
    )


def check_arguments(args):
    """Check what the parser cannot: the config, the number of processes, and options that it took for a KEY or VALUE.

    Raises:
        UsageError:
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
