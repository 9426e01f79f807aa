"""Results of a study, made up."""

from pixpro_d2.extras.study.experiments import fine_tuning_name
from pixpro_d2.extras.study.methods import TASKS


def result(name, **metrics):
    return {
        "name": name, "command": f"python train_net.py OUTPUT_DIR {name}", "pretraining": None, "metrics": metrics,
        "seconds": 30.0, "resumed": False, "machine": "two cores",
    }  # fmt: skip


def fine_tunings(task, init, variant, *groups):
    """dict of name to result, values of the task's metric: of a pre-training with seed 0, 1, ... a list each."""
    values = {(p, f): value for p, group in enumerate(groups) for f, value in enumerate(group)}
    names = {pair: fine_tuning_name(task, init, variant, pair) for pair in values}
    return {name: result(name, **{TASKS[task].metric: values[pair]}) for pair, name in names.items()}
