"""Initialisations compared: the results of several seeds, their mean and standard deviation."""

from dataclasses import dataclass
from statistics import mean, stdev

from ..errors import UsageError
from .experiments import compared, fine_tuning_name, pretraining_name
from .recipes import METHODS, PARTS, RANDOM, TASKS


@dataclass(frozen=True)
class Row:
    """What an initialisation reached on a variant of a task.

    Attributes:
        init, variant (str): as the report calls them.
        values (list[float]): of the seeds, in per cent.
        gains (list[float]): differences to random weights at the same seeds; [] where there are none.
        seconds (list[float]): that the fine-tunings took; those that went on after an interruption are left out.
    """

    init: str
    variant: str
    values: list
    gains: list
    seconds: list


def rows(part, results):
    """Rows of a part (Part) for which there are results (dict of name to result, of any seeds).

    Raises:
        UsageError: for a result that lacks the metric of the task.
    """
    found = {pair: _seeds(part.task, *pair, results) for pair in compared(part)}
    return [_row(part, pair, found) for pair, of_seeds in found.items() if of_seeds]


def _seeds(task, init, variant, results):
    """Seed to result, in the order of the seeds."""
    start, metric = fine_tuning_name(task, init, variant, ""), TASKS[task].metric
    of_seeds = {int(name.removeprefix(start)): value for name, value in results.items() if name.startswith(start)}
    for seed, result in of_seeds.items():
        if metric not in result["metrics"]:  # one that learnt nothing has 0, so leaving it out would flatter the mean
            raise UsageError(
                f"The result of {start}{seed} has no finite '{metric}': look at its log, then remove its result and "
                "its folder and run the study again."
            )
    return dict(sorted(of_seeds.items()))


def _row(part, pair, found):
    task = TASKS[part.task]
    init, variant = pair
    values = {seed: result["metrics"][task.metric] for seed, result in found[pair].items()}
    first = part.variants[variant][0]
    random = {seed: result["metrics"][task.metric] for seed, result in found[first, variant].items()}
    gains = [value - random[seed] for seed, value in values.items() if seed in random and init != first]
    seconds = [result["seconds"] for result in found[pair].values() if not result["resumed"]]
    return Row(init_title(init), task.variants[variant], list(values.values()), gains, seconds)


def init_title(init):
    """What the report calls an initialisation."""
    return "random" if init == RANDOM else METHODS[init].title


def pretrainings(results):
    """(title, result) of the pre-trainings that are finished."""
    named = {method.title: results.get(pretraining_name(key)) for key, method in METHODS.items()}
    return [(title, result) for title, result in named.items() if result]


def spread(values, sign=""):
    """Mean and sample standard deviation in words, as "24.8 ± 1.3"; "" for no values, no deviation for one."""
    if not values:
        return ""
    words = f"{mean(values):{sign}.1f}"
    return f"{words} ± {stdev(values):.1f}" if len(values) > 1 else words


def parts_with_results(results):
    """(key, Part, rows) of the parts that have any."""
    found = [(key, part, rows(part, results)) for key, part in PARTS.items()]
    return [item for item in found if item[2]]
