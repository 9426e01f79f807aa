"""Does pre-training help? Pre-trainings and fine-tunings one after the other, and a page about them.

python -m pixpro_d2.tools.study OUTPUT --images images:DIR --detection voc:DIR [--parts labels video] [--scale gpu]
python -m pixpro_d2.tools.study OUTPUT --report

Runs train_net.py for each experiment. What is finished is not run again, what was interrupted goes on: after an
interruption the same command completes the study. The second form makes the page out of what is there.
"""

import argparse
import os
import sys
from pathlib import Path

from ..errors import UsageError
from ..stop_signals import requeue_when_stopped
from ..study.data import ROOT, StudyData, shown
from ..study.experiments import list_experiments
from ..study.page import write_page
from ..study.recipes import PARTS, SCALES
from ..study.running import is_finished, read_results, run

PAGE = ROOT / "docs" / "study.md"


def run_study(output, data, parts, seeds, scale, announce=print):
    """Run what is not finished yet.

    Args:
        output (Path): folder of the study.
        data (StudyData): what to train on.
        parts (list[str]): keys of PARTS.
        seeds (list[int]): of the fine-tuning.
        scale (Scale): recipes.
        announce (Callable[[str], None]): gets lines on what goes on.

    Returns:
        int: number of experiments that ran.

    Raises:
        UsageError: for data that cannot be used, an experiment that fails, or an ``output`` of another study.
    """
    experiments = list_experiments(parts, seeds, scale, data)
    left = [experiment for experiment in experiments if not is_finished(experiment, output)]
    announce(f"{len(left)} of {len(experiments)} experiments to run, about {_hours(left):.1f} hours")
    if left:
        data.prepare([PARTS[name] for name in parts], seeds, scale)
    for number, experiment in enumerate(left, start=1):
        announce(f"[{number}/{len(left)}] {experiment.name}, about {experiment.seconds / 60:.0f} min")
        result = run(experiment, output)
        announce(f"    took {result['seconds'] / 60:.1f} min; about {_hours(left[number:]):.1f} hours are left")
    return len(left)


def _hours(experiments):
    return sum(experiment.seconds for experiment in experiments) / 3600


def main(argv=None):
    """Run the command line ``argv``, by default that of the process."""
    parser = argparse.ArgumentParser(
        prog="python -m pixpro_d2.tools.study", description="Study whether pre-training helps, and write a page on it."
    )
    parser.add_argument("output", metavar="OUTPUT", type=Path, help="folder of runs and results")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="by default all")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], metavar="SEED", help="by default 0 1 2")
    parser.add_argument("--scale", choices=SCALES, default="cpu", help="by default cpu: two cores")
    parser.add_argument(
        "--images", nargs="+", default=[], metavar="images:DIR", help="to pre-train on, beside the detection images"
    )
    parser.add_argument("--detection", metavar="voc:DIR", help="data set with the splits train or trainval, and test")
    parser.add_argument("--report", action="store_true", help="run nothing: write the page about what is finished")
    parser.add_argument("--page", type=Path, default=PAGE, metavar="FILE", help="by default docs/study.md")
    args = parser.parse_args(argv)
    try:
        if not args.report:
            with requeue_when_stopped():
                run_study(args.output, _study_data(args), args.parts, args.seeds, SCALES[args.scale], _announce)
        paths = write_page(args.page, read_results(args.output))
    except UsageError as error:
        sys.exit(f"error: {error}")
    print(f"wrote {', '.join(paths)}")


def _announce(line):
    print(line, flush=True)


def _study_data(args):
    """Data of the command line, with paths that hold in the checkout."""
    if min(args.seeds) < 0:
        raise UsageError(f"--seeds has {min(args.seeds)}: seeds are not negative.")
    detection = None
    if any(PARTS[part].task == "detection" for part in args.parts):
        if not args.detection:
            raise UsageError("These --parts train detectors: name a data set by --detection voc:DIR.")
        detection = _folder(args.detection, "voc", "--detection")
    images = tuple(f"images:{shown(_folder(name, 'images', '--images'))}" for name in args.images)
    return StudyData(args.output / "data", images, detection)


def _folder(name, scheme, option):
    start, _, folder = name.partition(":")
    if start != scheme or not os.path.isdir(folder):
        raise UsageError(f"{option} is '{name}'; it takes {scheme}:DIR, DIR being a folder.")
    return Path(folder)


if __name__ == "__main__":
    main()
