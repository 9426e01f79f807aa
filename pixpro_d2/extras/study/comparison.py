"""Compare initialisations: means over fine-tunings that are nested in pre-trainings, and their standard errors.

A pre-training with its fine-tunings is one sample of a method. So the fine-tunings of a pre-training are averaged
first. Mean and standard error are taken over these averages.
"""

import re
import shlex
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any

from ...utils.errors import UsageError
from .experiments import Pair, compared, fine_tuning_name, pair_of, pretraining_name
from .methods import CONTROL, LEAST_GAIN, METHODS, PARTS, RANDOM, TASKS, Part


@dataclass(frozen=True)
class Row:
    """Hold the results of an initialisation on a variant of a task.

    Attributes:
        init: title of the initialisation in the report.
        variant: title of the variant in the report.
        values: result in per cent by (seed of the pre-training, number of the fine-tuning).
        gains: differences to random weights by the same pairs; {} if there are none.
    """

    init: str
    variant: str
    values: dict[Pair, float]
    gains: dict[Pair, float]


def rows(part: Part, results: dict) -> list[Row]:
    """Return the rows of a part for which there are results (name to result, of any seeds).

    Raises:
        UsageError: if a result lacks the metric of the task, or results to average have different recipes.
    """
    found = {names: _of_pairs(part.task, *names, results) for names in compared(part)}
    return [_row(part, names, found) for names, of_pairs in found.items() if of_pairs]


def _of_pairs(task: str, init: str, variant: str, results: dict[str, Any]) -> dict[Pair, dict[str, Any]]:
    """Return the results by pair, in the order of the pairs."""
    start, metric = fine_tuning_name(task, init, variant), TASKS[task].metric
    found = {pair: result for name, result in results.items() if (pair := pair_of(name, start))}
    _check_same_recipe(found)
    for pair, result in found.items():
        if metric not in result["metrics"]:  # skipping the result would bias the mean upwards
            raise UsageError(
                f"The result of {fine_tuning_name(task, init, variant, pair)} has no finite '{metric}': look at its "
                "log, then remove its result and its folder and run the study again."
            )
    return dict(sorted(found.items()))


def _check_same_recipe(found: dict[Pair, dict[str, Any]]) -> None:
    """Check that results to average differ in nothing but seeds.

    Raises:
        UsageError: if two results have other data, devices or recipes.
    """
    results = list(found.values())
    for result in results[1:]:
        if _recipe(result) != _recipe(results[0]):
            raise UsageError(
                f"The results of {results[0]['name']} and {result['name']} have different commands, so their mean "
                "would mix two experiments: use another folder for the study with other data, device or recipes."
            )


def _recipe(result: dict[str, Any]) -> list[str]:
    """Return the words of a result's command and of its pre-training without seeds, weights and folders."""
    words = shlex.split(f"{result['command']} {result['pretraining'] or ''}")
    return [
        re.sub(r"_seed\d+", "", word)
        for before, word in zip(["", *words], words)
        if before not in ("SEED", "MODEL.WEIGHTS", "OUTPUT_DIR")
    ]


def _row(part: Part, names: tuple[str, str], found: dict[tuple[str, str], dict[Pair, dict[str, Any]]]) -> Row:
    task = TASKS[part.task]
    init, variant = names
    values = {pair: result["metrics"][task.metric] for pair, result in found[names].items()}
    first = part.variants[variant][0]
    random = {pair: result["metrics"][task.metric] for pair, result in found[first, variant].items()}
    gains = {pair: value - random[pair] for pair, value in values.items() if pair in random and init != first}
    return Row(init_title(init), task.variants[variant], values, gains)


def init_title(init: str) -> str:
    """Return the title of an initialisation in the report."""
    return "random" if init == RANDOM else METHODS[init].title


def averages(values: dict[Pair, float]) -> list[float]:
    """Return for each pre-training, in the order of their seeds, the mean over its fine-tunings."""
    groups: dict[int, list[float]] = {}
    for (pretraining, _), value in sorted(values.items()):
        groups.setdefault(pretraining, []).append(value)
    return [mean(group) for group in groups.values()]


def standard_error(values: dict[Pair, float]) -> float:
    """Return the standard error of the mean over two or more pre-trainings."""
    groups = averages(values)
    return stdev(groups) / len(groups) ** 0.5


def estimate(values: dict[Pair, float], sign: str = "") -> str:
    """Return mean and standard error over the pre-trainings in words, as "24.8 ± 1.3".

    The result is "" for no values, and has no error for a single pre-training. No mean is "-0.0".
    """
    groups = averages(values)
    if not groups:
        return ""
    words = f"{mean(groups):{sign}z.1f}"
    return f"{words} ± {standard_error(values):.1f}" if len(groups) > 1 else words


def deviation(values: dict[Pair, float]) -> str:
    """Return the sample standard deviation over all fine-tunings in words; "" for a single one."""
    return f"{stdev(values.values()):.1f}" if len(values) > 1 else ""


def counts(values: dict[Pair, float]) -> str:
    """Return the numbers of pre-trainings and of fine-tunings of each, as "3 x 3", or "2 x 1-3" if they differ."""
    sizes: dict[int, int] = {}
    for pretraining, _ in values:
        sizes[pretraining] = sizes.get(pretraining, 0) + 1
    low, high = min(sizes.values()), max(sizes.values())
    return f"{len(sizes)} x {low}" if low == high else f"{len(sizes)} x {low}-{high}"


def cannot_judge(part_rows: list[Row]) -> list[tuple[str, float]]:
    """Return (variant, gain) of variants that cannot judge: the control gains less than LEAST_GAIN."""
    control = [row for row in part_rows if row.init == init_title(CONTROL) and row.gains]
    gains = [(row.variant, mean(averages(row.gains))) for row in control]
    return [(variant, gain) for variant, gain in gains if gain < LEAST_GAIN]


def pretrainings(results: dict) -> list[tuple[str, list[dict]]]:
    """Return (title, results of all seeds) of the methods with finished pre-trainings."""
    found = []
    for key, method in METHODS.items():
        start = pretraining_name(key, "")
        of_seeds = {name.removeprefix(start): result for name, result in results.items() if name.startswith(start)}
        found.append((method.title, [of_seeds[seed] for seed in sorted(of_seeds, key=int)]))
    return [item for item in found if item[1]]


def parts_with_results(results: dict) -> list[tuple[str, Part, list[Row]]]:
    """Return (key, part, rows) of the parts that have rows."""
    found = [(key, part, rows(part, results)) for key, part in PARTS.items()]
    return [item for item in found if item[2]]
