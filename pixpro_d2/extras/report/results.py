"""Collect the results of runs on labelled data."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ...monitoring.curves import Curve, finite
from .runs import Run

# Kinds of results: evaluators of detectron2 and of this project record KIND/METRIC. The name of the data set precedes
# the kind if there are several data sets.
_KINDS = ("bbox", "segm", "keypoints", "sem_seg", "panoptic_seg", "classification", "knn")
_PER_CLASS = re.compile(r"(AP|IoU|BoundaryIoU|ACC)-.*")  # name of a metric


@dataclass(frozen=True)
class Score:
    """Hold a result of one run in per cent: its last value, its best finite value, and the iterations of both.

    Attributes:
        last: last value; it may be NaN.
        is_final: whether the last value was measured after the last iteration of the training.
    """

    last: float
    best: float
    best_iteration: int
    iteration: int
    is_final: bool


def is_result(name: str) -> bool:
    """Return whether a recorded value is a result; other values describe the course of training."""
    return any(part in _KINDS for part in name.split("/")[:-1])


def is_per_class(name: str) -> bool:
    """Return whether a result belongs to a single class."""
    return bool(_PER_CLASS.fullmatch(name.rsplit("/", 1)[-1]))


def is_main(name: str) -> bool:
    """Return whether a result is the metric by which its task is compared."""
    metric = name.rsplit("/", 1)[-1]
    return metric in ("AP", "mIoU", "IoU", "PQ") or metric.endswith("_top1")


def scores(run: Run) -> dict[str, Score]:
    """Return the scores of all results of a run by name."""
    return {name: _score(run, curve) for name, curve in run.curves.items() if curve and is_result(name)}


def _score(run: Run, curve: Curve) -> Score:
    iteration, last = curve[-1]
    best_iteration, best = max(finite(curve) or curve[-1:], key=lambda point: point[::-1])  # the latest of equal values
    return Score(last, best, best_iteration, iteration, run.is_at_end(iteration))


def table(runs: Sequence[Run], per_class: bool = False) -> tuple[list[str], list[tuple[int, list[Score | None]]]]:
    """Return results side by side.

    Args:
        runs: runs to compare.
        per_class: return the results of single classes, or all other results.

    Returns:
        Names of the results, main metrics first, and (index, scores or None) of each run that has results.
    """
    found = {index: scores(run) for index, run in enumerate(runs)}
    names = list(dict.fromkeys(name for of_run in found.values() for name in of_run if is_per_class(name) == per_class))
    names.sort(key=is_main, reverse=True)
    rows = [(index, [of_run.get(name) for name in names]) for index, of_run in found.items()]
    return names, [row for row in rows if any(row[1])]
