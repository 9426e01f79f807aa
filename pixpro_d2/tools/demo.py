"""Show the whole way in minutes, without any data: pre-train, fine-tune, evaluate, draw.

    python -m pixpro_d2.tools.demo [--output output/demo]

The demo renders scenes. PixPro and PixContrast pre-train configs/pretrain/quickstart.yaml on unlabelled scenes. Then
the demo trains a segmentation on a few labelled scenes from these checkpoints and from random weights, each with three
seeds. At the end it prints the results. Every training is a run of train_net.py. A repeated command skips finished
trainings.
"""

import argparse
import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..command_line import ShownDefaults, one_sentence, program
from ..utils.errors import UsageError
from ..utils.machine import usable_cores
from ..utils.signals import requeue_when_stopped
from .render import render_dataset
from .report import write_report

if TYPE_CHECKING:
    from ..extras.demo.experiments import Size

NEXT_COMMAND = "pixpro-d2 pretrain my_photos"
SIZES = ("demo", "smoke")


def run(output: Path, size: "Size", device: str) -> None:
    """Run the demo into a folder, and print the results.

    Raises:
        UsageError: if a training fails or is interrupted, or the folder belongs to another demo.
    """
    from ..extras.demo.experiments import (  # these load PyTorch
        RANDOM,
        fine_tuning_name,
        list_experiments,
        pretraining_name,
        tested_scenes,
    )
    from ..extras.demo.pictures import draw_features, draw_pairs, draw_segmentations, save
    from ..extras.demo.table import gather_values, table, verdict
    from ..extras.study.jobs import run_all
    from ..extras.study.running import arguments, is_finished, read_results, run_folder

    start = time.time()
    print(f"1. Render {size.unlabelled} scenes without labels, {size.labelled} with labels and {size.test} to test on")
    _render(output, size)

    experiments = list_experiments(output, size, device)
    left = [experiment for experiment in experiments if not is_finished(experiment, output)]
    print(f"2. Pre-train and fine-tune: {len(left)} of {len(experiments)} trainings to run")
    by_name = {experiment.name: experiment for experiment in experiments}
    pretraining, fine_tuning = by_name[pretraining_name("PixPro", 0)], by_name[fine_tuning_name("PixPro", 0)]
    for experiment in (pretraining, fine_tuning):
        print(f"   {experiment.name} is this command:")
        print(f"   $ {shlex.join(['pixpro-d2', 'train', *arguments(experiment, output)[1:]])}")
    jobs = 1 if device != "cpu" else max(1, min(usable_cores(), len(size.seeds)))
    run_all(left, output, jobs, _announce)

    print("3. Draw")
    final = {x.name: run_folder(output, x.name) / "model_final.pth" for x in experiments}
    shown = {title: by_name[fine_tuning_name(title, 0)] for title in (RANDOM, "PixPro")}
    pictures = {
        "pairs.png": draw_pairs(pretraining),
        "features.png": draw_features(pretraining, final[pretraining.name]),
        "segmentations.png": draw_segmentations(
            {title: (experiment, final[experiment.name]) for title, experiment in shown.items()}, tested_scenes(output)
        ),
    }
    for name, picture in pictures.items():
        print(f"   {save(picture, output / name)}")
    folders = [str(run_folder(output, x.name)) for x in (pretraining, *shown.values())]
    print(f"   {write_report(folders, output / 'report.html')}\n")

    values = gather_values(size, read_results(output))
    print(table(values))
    print(
        f"\nSemantic FPN, ResNet-18, {size.fine_tuning} iterations on {size.labelled} labelled scenes; "
        f"pre-trained for {size.pretraining} iterations on {size.unlabelled} scenes without labels; tested on "
        f"{size.test}. Mean ± standard error over {len(size.seeds)} seeds."
    )
    print(
        f"{verdict(values)} {(time.time() - start) / 60:.1f} minutes in all.\n\nNext, your own images:\n{NEXT_COMMAND}"
    )


def _check_device(name: str) -> None:
    from ..engine.configuration.configure import load_config, resolve_device

    try:
        resolve_device(load_config("", ["MODEL.DEVICE", name]))
    except UsageError as error:
        raise UsageError(str(error).replace("MODEL.DEVICE", "--device")) from None


def _render(output: Path, size: "Size") -> None:
    from ..extras.demo.experiments import SIDE, scenes_folder

    options: dict[str, Any] = {"size": SIDE, "layouts": ("voc",), "clutter": False, "kind": "things"}
    render_dataset(scenes_folder(output, "unlabelled"), train=size.unlabelled, test=0, seed=1, **options)
    render_dataset(scenes_folder(output, "labelled"), train=size.labelled, test=size.test, seed=0, **options)


def _announce(line: str) -> None:
    print(f"   {line}", flush=True)


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog=program("demo"),
        description="Pre-train, fine-tune and evaluate on rendered scenes.",
        formatter_class=ShownDefaults,
    )
    parser.add_argument("--output", type=Path, default=Path("output/demo"), help="folder for all results")
    parser.add_argument("--size", choices=SIZES, default="demo", help="smoke: only check that everything runs")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    return parser


@one_sentence
def main(argv: list[str] | None = None) -> None:
    """Run the command line ``argv``, by default the arguments of the process."""
    args = build_parser().parse_args(argv)
    from ..extras.demo import experiments  # it loads PyTorch

    _check_device(args.device)
    with requeue_when_stopped():
        run(args.output.resolve(), experiments.SIZES[args.size], args.device)


if __name__ == "__main__":
    main()
