"""What the runs reached on labelled data."""

import re
from dataclasses import dataclass

from ...monitoring.curves import finite

# Kinds of results that detectron2's and this project's evaluators record as KIND/METRIC, after the name of the data
# set if there are several.
_KINDS = ("bbox", "segm", "keypoints", "sem_seg", "panoptic_seg", "classification", "knn")
_PER_CLASS = re.compile(r"(AP|IoU|BoundaryIoU|ACC)-.*")  # of the metric's name


@dataclass(frozen=True)
class Score:
    """A result of one run: its last value, and its best with the iteration of it; in per cent."""

    last: float
    best: float
    best_iteration: int


def is_result(name):
    """Whether a recorded value is a result, rather than something that tells how training goes."""
    return any(part in _KINDS for part in name.split("/")[:-1])


def is_per_class(name):
    """Whether a result is that of one class."""
    return bool(_PER_CLASS.fullmatch(name.rsplit("/", 1)[-1]))


def scores(run):
    """dict of name to Score for all finite results of a run."""
    curves = {name: finite(curve) for name, curve in run.curves.items() if is_result(name)}
    return {name: _score(curve) for name, curve in curves.items() if curve}


def _score(curve):
    iteration, best = max(curve, key=lambda point: point[1])
    return Score(curve[-1][1], best, iteration)


def table(runs, per_class=False):
    """Results side by side.

    Args:
        runs (list[Run]):
        per_class (bool): those of single classes, or all others.

    Returns:
        tuple[list[str], list[tuple]]: names of the results, and for each run that has any (its index, list of Score
        or None).
    """
    found = {index: scores(run) for index, run in enumerate(runs)}
    names = list(dict.fromkeys(name for of_run in found.values() for name in of_run if is_per_class(name) == per_class))
    rows = [(index, [of_run.get(name) for name in names]) for index, of_run in found.items()]
    return names, [row for row in rows if any(row[1])]
