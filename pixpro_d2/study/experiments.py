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
        weights (str or None): name of the experiment whose weights it begins with; None for none.
        seconds (float): about what it takes.
    """

    name: str
    config: str
    options: dict
    weights: str | None
    seconds: float


def pretraining_name(method):
    """Name of the experiment that pre-trains with one of METHODS."""
    return f"pretrain-{method}"


def fine_tuning_name(task, init, variant, seed):
    """Name of the experiment that fine-tunes an initialisation on a variant of a task."""
    return f"{task}-{init}-{variant}-seed{seed}"


def compared(part):
    """(initialisation, variant) pairs of a part; random weights are not frozen, as nothing could be learnt on them."""
    return [(init, v) for v in part.variants for init in part.inits if (init, v) != (RANDOM, "frozen")]


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
    methods = dict.fromkeys(init for part in chosen for init in part.inits if init != RANDOM)
    runs = dict.fromkeys(
        (part.task, init, variant, seed) for seed in seeds for part in chosen for init, variant in compared(part)
    )
    pretrainings = [_pretraining(method, scale, data) for method in methods]
    return pretrainings + [_fine_tuning(*run, scale, data) for run in runs]


def _pretraining(method, scale, data):
    recipe = scale.recipes[METHODS[method].recipe]
    options = {**data.pretraining(METHODS[method].recipe), **METHODS[method].options}
    return _experiment(pretraining_name(method), recipe, options, PRETRAINING_SEED, None)


def _fine_tuning(task, init, variant, seed, scale, data):
    weights = None if init == RANDOM else pretraining_name(init)
    options = data.fine_tuning(task, variant, seed)
    return _experiment(fine_tuning_name(task, init, variant, seed), scale.recipes[task], options, seed, weights)


def _experiment(name, recipe, options, seed, weights):
    options = {**recipe.options, "SOLVER.MAX_ITER": recipe.iterations, **options, "SEED": seed}
    return Experiment(name, recipe.config, options, weights, recipe.overhead + recipe.iterations * recipe.seconds)
