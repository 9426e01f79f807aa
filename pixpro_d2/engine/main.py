"""Launch any run, as train_net.py does.

``python -m pixpro_d2.engine.main`` takes the arguments of train_net.py, also in an installed package.
"""

import sys
from argparse import Namespace
from collections.abc import Sequence
from typing import Any

from ..launch_arguments import argument_parser
from ..utils.errors import ONE_SENTENCE
from .configuration.configure import setup
from .dry_run import dry_run
from .processes.failed_start import failed_start_undone
from .processes.launch import launch
from .trainer import Trainer


def main(args: Namespace) -> Any:
    """Run one process of a training, an evaluation or a dry run."""
    try:
        if args.dry_run:
            return dry_run(args)
        with failed_start_undone(args):
            cfg = setup(args)
            if args.eval_only:
                return Trainer.evaluate(cfg, resume=args.resume)
            trainer = Trainer(cfg)
            trainer.resume_or_load(resume=args.resume)
        return trainer.train()
    except ONE_SENTENCE as error:
        sys.exit(f"error: {error}")


def run(argv: Sequence[str] | None = None) -> None:
    """Start the processes of the command line ``argv``; by default the command line of this process."""
    launch(main, argument_parser().parse_args(argv))


if __name__ == "__main__":
    run()
