"""Run ``pixpro-d2 train``: start the launcher with the arguments of ``train_net.py``."""

from collections.abc import Sequence

from ..command_line import OptionsAnywhere
from ..config_files import config_path
from ..launch_arguments import argument_parser, check_arguments
from .checks import check_detectron2


def build_parser() -> OptionsAnywhere:
    """Return the parser of the command line."""
    return argument_parser("pixpro-d2 train")


def main(argv: Sequence[str]) -> None:
    """Run the command line ``argv``.

    Raises:
        UsageError: for a mistake in the command line.
    """
    args = build_parser().parse_args(argv)
    check_arguments(args)
    config_path(args.config_file)
    check_detectron2()
    from ..engine.main import main as run_process
    from ..engine.processes.launch import launch  # these two load PyTorch

    launch(run_process, args)
