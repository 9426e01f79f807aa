"""The experiments of a study: which trainings answer its questions, each with its complete options."""

from dataclasses import dataclass

from .recipes import METHODS, PARTS, RANDOM

PRETRAINING_SEED = 0  # One pre-training of each method: the seeds vary the fine-tuning and which images are labelled.


@dataclass(frozen=True)
class Experiment:
    """One training.

    Attributes:
        name (str): of its folder and its result.
        config (str): relative to the checkout.
        options (dict): config key to value, without those that say where weights come from and where output goes.
        weights (Experiment or None): the pre-training whose weights it begins with; None for none.
        seconds (float): about what it takes.
    """

    name: str
    config: str
    options: dict
    weights: "Experiment | None"
    seconds: float


def pretraining_name(method):
    """Name of the experiment that pre-trains with one of METHODS."""
    return f"pretrain-{method}"


def fine_tuning_name(task, init, variant, seed):
    """Name of the experiment that fine-tunes an initialisation on a variant of a task."""
    return f"{task}-{init}-{variant}-seed{seed}"


def compared(part):
    """(initialisation, variant) pairs of a part."""
    return [(init, variant) for variant, inits in part.variants.items() for init in inits]


def list_experiments(parts, seeds, scale, data):
    """Experiments in an order to run them in; what several parts need comes once.

    Args:
        parts (list[str]): keys of PARTS.
        seeds (list[int]): of the fine-tuning.
        scale (Scale): recipes.
        data (StudyData): names of the data sets, as options.

    Returns:
        list[Experiment]: pre-trainings before what begins with them.
    """
    chosen = [PARTS[name] for name in parts]
    methods = dict.fromkeys(init for part in chosen for init, _ in compared(part) if init != RANDOM)
    pretrainings = {method: _pretraining(method, scale, data) for method in methods}
    runs = dict.fromkeys(
        (part.task, init, variant, seed) for seed in seeds for part in chosen for init, variant in compared(part)
    )
    return [*pretrainings.values(), *(_fine_tuning(*run, pretrainings, scale, data) for run in runs)]


def _pretraining(method, scale, data):
    recipe = scale.recipes[METHODS[method].recipe]
    options = {**data.pretraining(METHODS[method].recipe), **METHODS[method].options}
    return _experiment(pretraining_name(method), recipe, options, PRETRAINING_SEED, None)


def _fine_tuning(task, init, variant, seed, pretrainings, scale, data):
    name = fine_tuning_name(task, init, variant, seed)
    options = data.fine_tuning(task, variant, seed)
    return _experiment(name, scale.recipes[task], options, seed, pretrainings.get(init))


def _experiment(name, recipe, options, seed, weights):
    options = {**recipe.options, "SOLVER.MAX_ITER": recipe.iterations, **options, "SEED": seed}
    seconds = recipe.overhead + options["SOLVER.MAX_ITER"] * recipe.seconds
    return Experiment(name, recipe.config, options, weights, seconds)
