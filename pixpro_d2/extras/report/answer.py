"""Answer whether pre-trained weights are better than random weights, from the runs of downstream tasks."""

import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import mean, stdev, variance
from typing import Any

import yaml

from ...utils.nested import flatten
from .results import is_main, scores
from .runs import Run
from .summary import start_of, task_of

CLEAR = 2  # standard errors by which two means must differ
NEEDED = (
    "Two finished fine-tunings are needed, one from pre-trained and one from random weights. Both must have the same "
    "network, data and schedule, and agree in all other keys that change training or test. Name both folders in one "
    "report."
)


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
    groups: dict[tuple[tuple[str, str], ...], dict[str, list[Run]]] = {}
    for run in runs:
        if run.config and not run.is_pretraining:
            groups.setdefault(_experiment(run), {}).setdefault(run.key("MODEL.WEIGHTS", ""), []).append(run)
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


def _experiment(run: Run) -> tuple[tuple[str, str], ...]:
    """Return the keys, with values, that decide what a run learns and how it is tested, except its start and seed.

    Keys that the config lacks have their default.
    """
    from ...engine.configuration.resumed_run import is_free  # these two load PyTorch
    from ...starts import KEYS

    values = {**_defaults(), **flatten(run.config)}
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


def _compare(trained: Sequence[Run], random: Sequence[Run]) -> list[Answer]:
    """Compare by the first main metric of each kind and data set that all runs with a final result have."""
    skipped = ", ".join(run.name for run in (*trained, *random) if not _final(run))
    note = [f"Not compared, because the final result is missing or not a finite number: {skipped}."] if skipped else []
    trained, random = ([run for run in part if _final(run)] for part in (trained, random))
    found = [_final(run) for run in (*trained, *random)]
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


def _judge(trained: Sequence[Run], random: Sequence[Run], metric: str, title: str, note: Sequence[str]) -> Answer:
    """Compare by a metric, which the answer calls ``title``; ``note`` ends the reasons."""
    ours, theirs = _of_seeds(trained, metric), _of_seeds(random, metric)
    gain = mean(ours) - mean(theirs)
    task = task_of(trained[0])
    reasons = [
        f"{task[0].upper()}{task[1:]} reaches {title} {_value(ours, len(trained))} from "
        f"{start_of(trained[0])} and {_value(theirs, len(random))} from random weights: "
        f"{f'{gain:+.1f}'.replace('-', '−')} points."
    ]
    if min(len(ours), len(theirs)) < 2:
        reasons.append("One seed is no proof. Repeat both fine-tunings with other values of SEED.")
        clear = False
    else:
        error = math.sqrt(variance(ours) / len(ours) + variance(theirs) / len(theirs))
        reasons.append(f"The standard error of this difference is {error:.1f} points.")
        clear = abs(gain) > CLEAR * error
    verdict = ("Yes" if gain > 0 else "No") if clear else ("Perhaps" if gain > 0 else "Perhaps not")
    return Answer(verdict, ("good" if gain > 0 else "bad") if clear else "watch", [*reasons, *note], [])


def _final(run: Run) -> dict[str, float]:
    """Return the main results of a finished run that are finite numbers, measured after the last iteration."""
    found = {name: score for name, score in scores(run).items() if is_main(name)} if run.is_finished else {}
    return {name: score.last for name, score in found.items() if score.is_final and math.isfinite(score.last)}


def _of_seeds(runs: Sequence[Run], metric: str) -> list[float]:
    """Return the mean result of each seed; a run of unknown seed counts as a seed of its own."""
    seeds: dict[int, list[float]] = {}
    for number, run in enumerate(runs):
        seed = run.key("SEED")
        known = isinstance(seed, int) and seed >= 0
        seeds.setdefault(seed if known else -1 - number, []).append(scores(run)[metric].last)
    return [mean(values) for values in seeds.values()]


def _value(values: Sequence[float], runs: int) -> str:
    """Return in words the mean of the results of the seeds, and its standard error."""
    text, seeds = f"{mean(values):.1f}", len(values)
    if seeds > 1:
        text += f" ± {stdev(values) / math.sqrt(seeds):.1f}"
    of_seeds = "" if seeds == runs else " of one seed" if seeds == 1 else f" of {seeds} seeds"
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
