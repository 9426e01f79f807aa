"""Run the demo: render, pre-train, fine-tune, draw, and print the results."""

import shlex
import time
from pathlib import Path
from typing import Any

from ...utils.machine import usable_cores
from ..report.page import write_report
from ..scenes.render_dataset import render_dataset
from ..study.jobs import run_all
from ..study.running import arguments, is_finished, read_results, run_folder
from .experiments import (
    RANDOM,
    SIDE,
    Size,
    fine_tuning_name,
    list_experiments,
    pretraining_name,
    scenes_folder,
    tested_scenes,
)
from .pictures import draw_features, draw_pairs, draw_segmentations, save
from .table import gather_values, table, verdict

NEXT_COMMAND = "pixpro-d2 pretrain my_photos"


def run(output: Path, size: Size, device: str) -> None:
    """Run the demo into a folder, and print the results.

    Raises:
        UsageError: if a training fails or is interrupted, or the folder belongs to another demo.
    """
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


def _render(output: Path, size: Size) -> None:
    options: dict[str, Any] = {"size": SIDE, "layouts": ("voc",), "clutter": False, "kind": "things"}
    render_dataset(scenes_folder(output, "unlabelled"), train=size.unlabelled, test=0, seed=1, **options)
    render_dataset(scenes_folder(output, "labelled"), train=size.labelled, test=size.test, seed=0, **options)


def _announce(line: str) -> None:
    print(f"   {line}", flush=True)
