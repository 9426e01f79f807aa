"""Run the experiments of a study, one or several at a time."""

import time
from collections.abc import Callable
from pathlib import Path

from ...utils.errors import UsageError
from ...utils.machine import usable_cores
from .data import StudyData
from .experiments import Experiment, fine_tuning_seed, list_experiments
from .methods import PARTS
from .recipes import Scale
from .running import Training, is_finished

POLL_SECONDS = 0.2  # between checks of running trainings


def run_all(experiments: list[Experiment], output: Path, jobs: int, announce: Callable[[str], None]) -> dict[str, dict]:
    """Run experiments in their order, each after the pre-training that it starts from.

    Concurrent experiments share the processor: each gets an equal number of its cores as threads.

    Args:
        experiments: unfinished experiments; a pre-training precedes its fine-tunings.
        output: folder of the study.
        jobs: number of concurrent experiments.
        announce: called with lines about progress.

    Returns:
        Result by name.

    Raises:
        UsageError: if an experiment fails, already runs or is interrupted; the other experiments then save and end.
    """
    threads = None if jobs == 1 else max(1, usable_cores() // jobs)
    waiting, results = list(experiments), {}
    running: list[Training] = []
    try:
        while waiting or running:
            while len(running) < jobs and (experiment := _next(waiting, running)):
                waiting.remove(experiment)
                number = len(experiments) - len(waiting)
                announce(f"[{number}/{len(experiments)}] {experiment.name}, about {experiment.seconds / 60:.0f} min")
                running.append(Training(experiment, output, threads))
            for training in [training for training in running if training.has_ended()]:
                running.remove(training)
                training.close()
                result = results[training.experiment.name] = training.write_result()
                left = time_left([*waiting, *(other.experiment for other in running)], jobs)
                announce(f"{result['name']} took {result['seconds'] / 60:.1f} min; {left} are left")
            time.sleep(POLL_SECONDS)
    except KeyboardInterrupt:
        names = " and ".join(training.experiment.name for training in running) or "The study"
        raise UsageError(f"{names} was interrupted: run the command again to continue.") from None
    finally:
        _end(running)
    return results


def _next(waiting: list[Experiment], running: list[Training]) -> Experiment | None:
    """Return the first experiment whose pre-training is finished; None if all wait for a running pre-training."""
    unfinished = {experiment.name for experiment in (*waiting, *(training.experiment for training in running))}
    ready = (x for x in waiting if x.weights is None or x.weights.name not in unfinished)
    return next(ready, None)


def _end(running: list[Training]) -> None:
    for training in running:
        training.ask_to_end()
    for training in running:
        training.close()


def time_left(experiments: list[Experiment], jobs: int) -> str:
    """Return in words the approximate duration of experiments if ``jobs`` of them run at a time."""
    hours = sum(experiment.seconds for experiment in experiments) / 3600 / jobs
    return f"about {hours:.1f} hours" if hours >= 1 else f"about {60 * hours:.0f} min"


def run_study(
    output: Path,
    data: StudyData,
    parts: list[str],
    seeds: tuple[list[int], list[int]],
    scale: Scale,
    jobs: int = 1,
    announce: Callable[[str], None] = print,
) -> int:
    """Run all unfinished experiments; return the number of experiments that ran.

    Args:
        output: folder of the study.
        data: what to train on.
        parts: keys of PARTS.
        seeds: seeds of the pre-training, and numbers of the fine-tunings of each pre-training.
        scale: recipes of the experiments.
        jobs: experiments that run at a time.
        announce: called with lines about progress.

    Raises:
        UsageError: if data cannot be used, an experiment fails, or ``output`` belongs to another study.
    """
    experiments = list_experiments(parts, *seeds, scale, data)
    left = [experiment for experiment in experiments if not is_finished(experiment, output)]
    announce(f"{len(left)} of {len(experiments)} experiments to run, {time_left(left, jobs)}")
    if left:
        fine_tunings = [fine_tuning_seed((pretraining, number)) for pretraining in seeds[0] for number in seeds[1]]
        data.write_missing([PARTS[name] for name in parts], fine_tunings, scale)
    return len(run_all(left, output, jobs, announce))
