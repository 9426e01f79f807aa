"""Study whether pre-training helps: pre-trainings and fine-tunings with several seeds each, and a page about them.

python -m pixpro_d2.tools.study OUTPUT --photographs classes:DIR --objects voc:DIR --scenes DIR --cells voc:DIR
    [--parts objects video] [--pretraining-seeds 0 1 2] [--seeds 0 1 2] [--jobs 2]
python -m pixpro_d2.tools.study OUTPUT --report

Each experiment is a run of train_net.py. A repeated command skips finished experiments and resumes interrupted
experiments, until the study is complete. The second form writes the page from the finished experiments.
"""

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from ..command_line import at_least, one_sentence, positive, program
from ..extras.study.methods import PARTS
from ..extras.study.recipes import ROOT, STUDY
from ..utils.errors import UsageError
from ..utils.signals import requeue_when_stopped

if TYPE_CHECKING:
    from ..extras.study.data import StudyData

PAGE = ROOT / "docs" / "study.md"
# option -> (prefix of its value, tasks that need it)
DATA_OPTIONS = {
    "photographs": ("classes:", ("objects", "scenes", "cells")),
    "objects": ("voc:", ("objects",)),
    "scenes": ("", ("scenes",)),
    "cells": ("voc:", ("cells",)),
}


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog=program("study"), description="Study whether pre-training helps, and write a page on it."
    )
    parser.add_argument("output", metavar="OUTPUT", type=Path, help="folder of runs and results")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="by default all parts")
    for option, explanation in (
        ("--pretraining-seeds", "of the pre-training"),
        ("--seeds", "of its fine-tunings"),
    ):
        parser.add_argument(
            option,
            nargs="+",
            type=at_least(0),
            default=[0, 1, 2],
            metavar="SEED",
            help=f"seeds {explanation}, by default 0 1 2",
        )
    parser.add_argument("--jobs", type=positive, default=1, metavar="N", help="experiments at a time, by default 1")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where trainings run, by default cpu")
    parser.add_argument("--photographs", metavar="classes:DIR", help="images, of which the control reads the classes")
    parser.add_argument("--objects", metavar="voc:DIR", help="data set with splits train5, train20, train and test")
    parser.add_argument("--scenes", metavar="DIR", help="images and labels of segmentation, in train and in val")
    parser.add_argument("--cells", metavar="voc:DIR", help="data set with the splits train or trainval, and test")
    parser.add_argument("--report", action="store_true", help="run nothing: write the page from finished results")
    parser.add_argument("--page", type=Path, default=PAGE, metavar="FILE", help="page, by default docs/study.md")
    return parser


@one_sentence
def main(argv: list[str] | None = None) -> None:
    """Run the command line ``argv``, by default the arguments of the process."""
    args = build_parser().parse_args(argv)
    from ..extras.study.jobs import run_study  # these load PyTorch
    from ..extras.study.page import write_page
    from ..extras.study.running import read_results

    if not args.report:
        with requeue_when_stopped():
            seeds = args.pretraining_seeds, args.seeds
            scale = STUDY.on(args.device)
            run_study(args.output, _study_data(args), args.parts, seeds, scale, args.jobs, _announce)
    paths = write_page(args.page, read_results(args.output))
    print(f"wrote {', '.join(paths)}")


def _announce(line: str) -> None:
    print(line, flush=True)


def _study_data(args: argparse.Namespace) -> "StudyData":
    """Check the arguments, and return the data that their parts need."""
    from ..extras.study.data import StudyData

    tasks = {PARTS[part].task for part in args.parts}
    needed = {option: start for option, (start, users) in DATA_OPTIONS.items() if tasks.intersection(users)}
    return StudyData(args.output / "data", **{name: _folder(args, name, start) for name, start in needed.items()})


def _folder(args: argparse.Namespace, option: str, start: str) -> Path:
    value = getattr(args, option)
    if value is None:
        raise UsageError(f"These --parts need data: name them by --{option} {start}DIR.")
    folder = value.removeprefix(start)
    if not value.startswith(start) or not os.path.isdir(folder):
        raise UsageError(f"--{option} is '{value}'; it takes {start}DIR, DIR being a folder.")
    return Path(folder)


if __name__ == "__main__":
    main()
