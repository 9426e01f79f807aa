"""Answer whether pre-trained weights are better than random weights, from the runs of downstream tasks."""

import math
import shlex
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import mean, stdev, variance
from typing import Any

import numpy as np
import yaml

from ...utils.nested import flatten
from ...weights_files import weights_path
from .results import is_main, scores
from .runs import Run, read_config
from .summary import start_of, task_of

CONFIDENCE = 0.95  # share of differences by chance, as Student's t distributes them, that a clear difference exceeds
NEEDED = (
    "Two finished fine-tunings are needed, one from pre-trained and one from random weights. Both must have the same "
    "network, data and schedule, and agree in all other keys that change training or test. Name both folders in one "
    "report."
)

Parts = dict[Hashable, list[Run]]  # runs of one start by pre-training


@dataclass(frozen=True)
class Answer:
    """Hold an answer: a word or two, the reasons as sentences, and commands that lead to a better answer.

    Attributes:
        grade: "good", "watch", "bad" or "unknown".
    """

    verdict: str
    grade: str
    reasons: list[str]
    commands: list[str]


def better_than_random(runs: Sequence[Run]) -> list[Answer]:
    """Answer the question for each task, start and kind of result that runs of ``runs`` share; at least one answer."""
    groups: dict[Hashable, dict[Hashable, Parts]] = {}  # runs by experiment, start and pre-training
    for run in runs:
        if run.config and not run.is_pretraining:
            start, pretraining = _origin(run.key("MODEL.WEIGHTS", "") or "")
            of_start = groups.setdefault(_experiment(run.config), {}).setdefault(start, {})
            of_start.setdefault(pretraining, []).append(run)
    answers = [
        answer
        for of_start in groups.values()
        if "" in of_start
        for start, trained in of_start.items()
        if start
        for answer in _compare(trained, of_start[""])
    ]
    distinct = [answer for i, answer in enumerate(answers) if answer not in answers[:i]]
    return distinct or [_not_measured(runs)]


def _origin(weights: str) -> tuple[Hashable, Hashable]:
    """Return a start, equal for pre-trainings that differ only in their seed, and which of these it is.

    The ``config.yaml`` beside the weights tells. A file without a config is a start of its own.
    """
    path = Path(weights_path(weights))
    config = read_config(path.parent / "config.yaml") if weights else {}
    if not config:
        return weights, None
    flat = flatten(config)
    start = (path.name, _experiment(config), str(flat.get("MODEL.WEIGHTS")))
    return start, _known_seed(flat.get("SEED"), str(path.parent.resolve()))


def _known_seed(seed: Any, otherwise: Hashable) -> Hashable:
    """Return the seed; ``otherwise`` if the run drew it, so that it is unknown."""
    return seed if isinstance(seed, int) and seed >= 0 else otherwise


def _experiment(config: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Return the keys, with values, that decide what a run learns and how it is tested, except its start and seed.

    Keys that the config lacks have their default.
    """
    from ...engine.configuration.resumed_run import is_free  # these two load PyTorch
    from ...starts import KEYS

    values = {**_defaults(), **flatten(config)}
    return tuple(
        (key, str(value))
        for key, value in sorted(values.items())
        # These keys are free for a resumed run, but they change the result.
        if ("TEST" in key and key != "TEST.EVAL_PERIOD")
        or key.startswith("SOLVER.AMP.")
        or not (key == "SEED" or key in KEYS or is_free(key, (str(value),)))
    )


@cache
def _defaults() -> dict[str, Any]:
    """Return the default of each config key, as a config.yaml has it."""
    from ...config import default_config  # these two load PyTorch
    from ...engine.configuration.merging import LATER_KEYS

    return {**LATER_KEYS, **flatten(yaml.safe_load(default_config().dump()))}


def _compare(trained: Parts, random: Parts) -> list[Answer]:
    """Compare by the first main metric of each kind and data set that all runs with a final result have."""
    skipped = ", ".join(run.name for run in _all_runs(trained, random) if not _final(run))
    note = [f"Not compared, because the final result is missing or not a finite number: {skipped}."] if skipped else []
    trained, random = _with_result(trained), _with_result(random)
    found = [_final(run) for run in _all_runs(trained, random)]
    metrics: dict[str, str] = {}  # name by kind, such as bbox and segm, below the data set if there are several
    for name in found[0] if trained and random else ():
        if all(name in other for other in found):
            metrics.setdefault(name.rpartition("/")[0], name)
    if not metrics:
        return [Answer("Not measured", "unknown", [NEEDED, *note], [])] if skipped else []
    return [
        _judge(trained, random, name, name if len(metrics) > 1 else name.rpartition("/")[2], note)
        for name in metrics.values()
    ]


def _all_runs(*several: Parts) -> list[Run]:
    return [run for parts in several for runs in parts.values() for run in runs]


def _with_result(parts: Parts) -> Parts:
    """Return the runs that have a final result."""
    kept = {pretraining: [run for run in runs if _final(run)] for pretraining, runs in parts.items()}
    return {pretraining: runs for pretraining, runs in kept.items() if runs}


def _judge(trained: Parts, random: Parts, metric: str, title: str, note: Sequence[str]) -> Answer:
    """Compare by a metric, which the answer calls ``title``; ``note`` ends the reasons."""
    ours, theirs = _samples(trained, metric), _samples(random, metric)
    gain = mean(ours) - mean(theirs)
    first = _all_runs(trained)[0]
    task, start = task_of(first), start_of(first)
    if len(trained) > 1:
        start = f"{len(trained)} pre-trainings like {start}"
    reasons = [
        f"{task[0].upper()}{task[1:]} reaches {title} {_value(ours, trained)} from {start} and "
        f"{_value(theirs, random)} from random weights: {f'{gain:+.1f}'.replace('-', '−')} points."
    ]
    if min(len(ours), len(theirs)) < 2:
        reasons.append("One seed is no proof. Repeat both fine-tunings with other values of SEED.")
        clear = False
    else:
        clear, error = _is_clear(ours, theirs)
        reasons.append(f"The standard error of this difference is {error:.1f} points.")
        reasons.append(
            "Each pre-training counts once, with the mean of its fine-tunings."
            if len(trained) > 1
            else "All start from the same weights, so the answer is about them. Pre-trainings of other seeds may vary."
        )
    verdict = ("Yes" if gain > 0 else "No") if clear else ("Perhaps" if gain > 0 else "Perhaps not")
    return Answer(verdict, ("good" if gain > 0 else "bad") if clear else "watch", [*reasons, *note], [])


def _is_clear(ours: Sequence[float], theirs: Sequence[float]) -> tuple[bool, float]:
    """Return whether two means of two or more values differ clearly by Welch's t test, and the standard error."""
    parts = [(variance(values) / len(values), len(values) - 1) for values in (ours, theirs)]
    squared = sum(part for part, _ in parts)
    if not squared:
        return mean(ours) != mean(theirs), 0.0
    freedom = squared**2 / sum(part**2 / count for part, count in parts)
    # With t = sqrt(freedom) tan(angle), the density of Student's t is a power of the cosine.
    angles = np.linspace(0, math.pi / 2, 10_001)
    density = np.cos(angles).clip(0) ** (freedom - 1)
    reached = math.atan(abs(mean(ours) - mean(theirs)) / math.sqrt(squared * freedom))
    return bool(density[angles <= reached].sum() > CONFIDENCE * density.sum()), math.sqrt(squared)


def _final(run: Run) -> dict[str, float]:
    """Return the main results of a finished run that are finite numbers, measured after the last iteration."""
    found = {name: score for name, score in scores(run).items() if is_main(name)} if run.is_finished else {}
    return {name: score.last for name, score in found.items() if score.is_final and math.isfinite(score.last)}


def _samples(parts: Parts, metric: str) -> list[float]:
    """Return the mean result of each pre-training; of a single pre-training or random weights, of each seed."""
    of_seeds = [_of_seeds(runs, metric) for runs in parts.values()]
    return of_seeds[0] if len(of_seeds) == 1 else [mean(values) for values in of_seeds]


def _of_seeds(runs: Sequence[Run], metric: str) -> list[float]:
    """Return the mean result of each seed; a run of unknown seed counts as a seed of its own."""
    seeds: dict[Hashable, list[float]] = {}
    for number, run in enumerate(runs):
        seeds.setdefault(_known_seed(run.key("SEED"), -1 - number), []).append(scores(run)[metric].last)
    return [mean(values) for values in seeds.values()]


def _value(samples: Sequence[float], parts: Parts) -> str:
    """Return in words the mean of the samples, and its standard error."""
    text, count, runs = f"{mean(samples):.1f}", len(samples), len(_all_runs(parts))
    if count > 1:
        text += f" ± {stdev(samples) / math.sqrt(count):.1f}"
    of_seeds = "" if count == runs or len(parts) > 1 else " of one seed" if count == 1 else f" of {count} seeds"
    return text if runs == 1 else f"{text} ({runs} runs{of_seeds})"


def _not_measured(runs: Sequence[Run]) -> Answer:
    pretraining = next((run for run in runs if run.is_pretraining), None)
    if pretraining is None:
        return Answer("Not measured", "unknown", [NEEDED], [])
    here, folder = Path.cwd(), pretraining.folder
    folder = folder.relative_to(here) if folder.is_relative_to(here) else folder
    weights = shlex.quote(str(folder / "model_final.pth"))
    finetune = f"pixpro-d2 finetune {weights} --task detection --data voc:DIR@train --test voc:DIR@test"
    names = [shlex.quote(f"output/{folder.name}_{start}") for start in ("pretrained", "random")]
    return Answer(
        "Not measured yet",
        "unknown",
        ["Fine-tune on labelled images, once from this checkpoint and once from random weights, and report on all."],
        [
            f"{finetune} --out {names[0]}",
            f'{finetune} --out {names[1]} MODEL.WEIGHTS ""',
            f"pixpro-d2 report {shlex.quote(str(folder))} {' '.join(names)}",
        ],
    )
