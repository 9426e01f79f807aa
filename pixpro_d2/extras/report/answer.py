"""Answer whether pre-trained weights are better than random weights, from the runs of downstream tasks."""

import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev, variance

from .results import is_main, scores
from .runs import Run
from .summary import start_of, task_of

CLEAR = 2  # standard errors by which two means must differ
# Runs with equal values of these keys are compared: they train the same network on the same data for the same time.
_SAME = (
    "MODEL.META_ARCHITECTURE",
    "MODEL.BACKBONE.NAME",
    "MODEL.BACKBONE.FREEZE_AT",
    "MODEL.RESNETS.DEPTH",
    "MODEL.TIMM.NAME",
    "DATASETS.TRAIN",
    "DATASETS.TEST",
    "SOLVER.MAX_ITER",
    "SOLVER.IMS_PER_BATCH",
    "SOLVER.BASE_LR",
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
    """Answer the question for each task and each start that runs of ``runs`` share; at least one answer."""
    groups: dict[tuple[str, ...], dict[str, list[Run]]] = {}
    for run in runs:
        if run.config and not run.is_pretraining and run.is_finished and scores(run):
            same = tuple(str(run.key(key)) for key in _SAME)
            groups.setdefault(same, {}).setdefault(run.key("MODEL.WEIGHTS", ""), []).append(run)
    answers = [
        _compare(trained, of_start[""])
        for of_start in groups.values()
        if "" in of_start
        for start, trained in of_start.items()
        if start
    ]
    return [answer for answer in answers if answer] or [_not_measured(runs)]


def _compare(trained: Sequence[Run], random: Sequence[Run]) -> Answer | None:
    """Compare by the first main metric that all runs have; None without one."""
    found = [{name: score.last for name, score in scores(run).items()} for run in (*trained, *random)]
    metric = next((name for name in found[0] if is_main(name) and all(name in of_run for of_run in found)), None)
    if metric is None:
        return None
    ours, theirs = ([of_run[metric] for of_run in part] for part in (found[: len(trained)], found[len(trained) :]))
    gain = mean(ours) - mean(theirs)
    task = task_of(trained[0])
    reasons = [
        f"{task[0].upper()}{task[1:]} reaches {metric.rsplit('/', 1)[-1]} {_value(ours)} from "
        f"{start_of(trained[0])} and {_value(theirs)} from random weights: {f'{gain:+.1f}'.replace('-', '−')} points."
    ]
    if min(len(ours), len(theirs)) < 2:
        reasons.append("One run is no proof. Repeat both fine-tunings with other values of SEED.")
        clear = False
    else:
        error = math.sqrt(variance(ours) / len(ours) + variance(theirs) / len(theirs))
        reasons.append(f"The standard error of this difference is {error:.1f} points.")
        clear = abs(gain) > CLEAR * error
    verdict = ("Yes" if gain > 0 else "No") if clear else ("Perhaps" if gain > 0 else "Perhaps not")
    return Answer(verdict, ("good" if gain > 0 else "bad") if clear else "watch", reasons, [])


def _value(values: Sequence[float]) -> str:
    if len(values) == 1:
        return f"{values[0]:.1f}"
    return f"{mean(values):.1f} ± {stdev(values) / math.sqrt(len(values)):.1f} ({len(values)} runs)"


def _not_measured(runs: Sequence[Run]) -> Answer:
    pretraining = next((run for run in runs if run.is_pretraining), None)
    if pretraining is None:
        reason = (
            "Two finished fine-tunings are needed: the same network, data and schedule, once from pre-trained weights "
            "and once from random weights. Name both folders in one report."
        )
        return Answer("Not measured", "unknown", [reason], [])
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
