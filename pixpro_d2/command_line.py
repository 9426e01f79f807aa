"""The command line of train_net.py, and parsers that take options before, between and behind KEY VALUE pairs."""

import argparse
import re
import shlex
import sys

from .config_files import start_names
from .utils.errors import UsageError


class OptionsAnywhere(argparse.ArgumentParser):
    """A parser whose last argument takes all remaining words (``argparse.REMAINDER``), but for the parser's options."""

    def parse_known_args(self, args=None, namespace=None):
        words = sys.argv[1:] if args is None else args
        if any(action.nargs == argparse.REMAINDER for action in self._actions):  # not of sub-commands alone
            words = self._options_first(words)
        return super().parse_known_args(words, namespace)

    def _options_first(self, words):
        """``words`` in the order that argparse needs; an option of a varying number of values stays in its place."""
        first, rest, words = [], [], list(words)
        while words:
            word = words.pop(0)
            option = self._option_string_actions.get(word.partition("=")[0]) if word.startswith("--") else None
            if option is None or option.nargs not in (None, 0):
                rest.append(word)
                continue
            first.append(word)
            if option.nargs is None and "=" not in word:
                if not words:
                    self.error(f"argument {word}: expected one argument")
                first.append(words.pop(0))
        return first + rest


def argument_parser():
    """detectron2's parser and the options of this project, with a free port where ``--dist-url`` is not given."""
    from detectron2.engine import default_argument_parser  # here: it takes seconds, and other parsers need none of it

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
        help=f"start in place of the config's own, which is appended to OUTPUT_DIR: {', '.join(start_names())}",
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


def command_of_process() -> str:
    """Return the command line of this process."""
    return " ".join(["python", *sys.orig_argv[1:]])


def command_of(args: argparse.Namespace) -> str:
    """Return the command line of train_net.py that gives the arguments ``args``, as a shell takes it."""
    parser, words = argument_parser(), ["python", "train_net.py"]
    for name, value in vars(args).items():
        if name == "opts" or value == parser.get_default(name):
            continue
        words.append("--" + name.replace("_", "-"))
        words += [] if value is True else [str(value)]
    return " ".join(map(_quote, [*words, *map(str, args.opts)]))


def _quote(word: str) -> str:
    """Quote a word for a shell: Python's tuples of strings in double quotes, which are easier to read."""
    return f'"{word}"' if "'" in word and not re.search(r'["$`\\!]', word) else shlex.quote(word)
