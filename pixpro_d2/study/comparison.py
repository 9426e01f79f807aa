"""Initialisations compared: the results of several seeds, their mean and standard deviation."""

from dataclasses import dataclass
from statistics import mean, stdev

from .experiments import compared, fine_tuning_name, pretraining_name
from .recipes import METHODS, PARTS, RANDOM, TASKS


@dataclass(frozen=True)
class Row:
    """What an initialisation reached on a variant of a task.

    Attributes:
        init, variant (str): as the report calls them.
        values (list[float]): of the seeds, in per cent.
        gains (list[float]): differences to random initialisation at the same seeds; [] where there is none.
        seconds (list[float]): that the fine-tunings took; those that went on after an interruption are left out.
    """

    init: str
    variant: str
    values: list
    gains: list
    seconds: list


def rows(part, results):
    """Rows of a part (Part) for which there are results (dict of name to result, of any seeds)."""
    found = {pair: _seeds(part.task, *pair, results) for pair in compared(part)}
    return [_row(part, pair, found) for pair, of_seeds in found.items() if of_seeds]


def _seeds(task, init, variant, results):
    """Seed to result; a result without the metric, as of a detector that finds nothing, is left out."""
    start = fine_tuning_name(task, init, variant, "")
    of_seeds = {int(name.removeprefix(start)): value for name, value in results.items() if name.startswith(start)}
    return {seed: of_seeds[seed] for seed in sorted(of_seeds) if TASKS[task].metric in of_seeds[seed]["metrics"]}


def _row(part, pair, found):
    task = TASKS[part.task]
    init, variant = pair
    values = {seed: result["metrics"][task.metric] for seed, result in found[pair].items()}
    random = {seed: result["metrics"][task.metric] for seed, result in found.get((RANDOM, variant), {}).items()}
    gains = [value - random[seed] for seed, value in values.items() if seed in random and init != RANDOM]
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
