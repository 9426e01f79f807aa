"""Results of a study, made up."""

from pixpro_d2.study.experiments import fine_tuning_name
from pixpro_d2.study.recipes import TASKS


def result(name, **metrics):
    return {
        "name": name, "command": f"python train_net.py {name}", "metrics": metrics, "seconds": 30.0,
        "resumed": False, "machine": "two cores",
    }  # fmt: skip


def fine_tunings(task, init, variant, values):
    """dict of name to result for the seeds 0, 1, ... with these values of the task's metric."""
    names = [fine_tuning_name(task, init, variant, seed) for seed in range(len(values))]
    return {name: result(name, **{TASKS[task].metric: value}) for name, value in zip(names, values)}
