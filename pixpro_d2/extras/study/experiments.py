"""The experiments of a study: which trainings answer its questions, each with its complete options.

Fine-tunings are nested in pre-trainings. The pair (p, f) is the fine-tuning number f that begins with the pre-training
of seed p. Its own SEED is different for each pair and the same for every initialisation: it draws the new weights, the
order of the data and, where a few images are labelled, these images. So pairs with different p are independent, also
those of random weights, and initialisations are compared pair by pair.
"""

import re
from dataclasses import dataclass

from ...utils.errors import UsageError
from .data import StudyData
from .methods import METHODS, PARTS, RANDOM, Part
from .recipes import Recipe, Scale

FINE_TUNINGS = 100  # more than there are of one pre-training: SEED of the pair (p, f) is 100 p + f

Pair = tuple[int, int]  # (seed of the pre-training, number of the fine-tuning)


@dataclass(frozen=True)
class Experiment:
    """One training.

    Attributes:
        name (str): of its folder and its result.
        config (str): relative to the checkout.
        options (dict): config key to value, without those that say where weights come from and where output goes.
        weights (Experiment or None): the pre-training whose weights it begins with; None for none.
        seconds (float): about what it takes.
        handed_on (bool): whether others begin with its weights, which are then kept.
    """

    name: str
    config: str
    options: dict
    weights: "Experiment | None"
    seconds: float
    handed_on: bool


def pretraining_name(method: str, seed: int | str) -> str:
    """Return the name of the experiment that pre-trains with one of METHODS."""
    return f"pretrain-{method}-seed{seed}"


def fine_tuning_name(task: str, init: str, variant: str, pair: Pair | None = None) -> str:
    """Return the name of the experiment that fine-tunes an initialisation on a variant of a task.

    Without a ``pair`` it is what the names of all pairs begin with.
    """
    return f"{task}-{init}-{variant}-seed" + ("{}-{}".format(*pair) if pair else "")


def pair_of(name: str, start: str) -> Pair | None:
    """Return the pair of a fine-tuning whose name begins with ``start``; None for the name of another experiment."""
    found = re.fullmatch(re.escape(start) + r"(\d+)-(\d+)", name)
    return (int(found[1]), int(found[2])) if found else None


def fine_tuning_seed(pair: Pair) -> int:
    """Return SEED of the fine-tuning of a pair.

    Raises:
        UsageError: if another pair has it, too.
    """
    pretraining, number = pair
    if number >= FINE_TUNINGS:
        raise UsageError(f"--seeds has {number}: seeds of fine-tunings are less than {FINE_TUNINGS}.")
    return FINE_TUNINGS * pretraining + number


def compared(part: Part) -> list[tuple[str, str]]:
    """Return the (initialisation, variant) pairs of a part."""
    return [(init, variant) for variant, inits in part.variants.items() for init in inits]


def list_experiments(
    parts: list[str], pretraining_seeds: list[int], seeds: list[int], scale: Scale, data: StudyData
) -> list[Experiment]:
    """Return the experiments in an order to run them in; what several parts need comes once.

    All that has to do with a seed of the pre-training comes before the next such seed, so that a study in part is
    balanced. Fine-tunings come behind the pre-training that they begin with.

    Args:
        parts: keys of PARTS.
        pretraining_seeds: of the pre-training.
        seeds: numbers of the fine-tunings of each pre-training.
        scale: recipes.
        data: names of the data sets, as options.
    """
    chosen = [PARTS[name] for name in parts]
    inits = dict.fromkeys(init for part in chosen for init, _ in compared(part))
    found = []
    for seed in pretraining_seeds:
        for init in inits:
            weights = None if init == RANDOM else _pretraining(init, seed, scale, data)
            runs = dict.fromkeys(
                (part.task, variant, (seed, number))
                for number in seeds
                for part in chosen
                for other, variant in compared(part)
                if other == init
            )
            found += [weights] if weights else []
            found += [_fine_tuning(task, init, *run, weights, scale, data) for task, *run in runs]
    return found


def _pretraining(method: str, seed: int, scale: Scale, data: StudyData) -> Experiment:
    recipe = scale.recipes[METHODS[method].recipe]
    options = {**data.pretraining(METHODS[method].recipe), **METHODS[method].options}
    return build_experiment(pretraining_name(method, seed), recipe, options, seed, None, handed_on=True)


def _fine_tuning(
    task: str, init: str, variant: str, pair: Pair, weights: Experiment | None, scale: Scale, data: StudyData
) -> Experiment:
    name, seed = fine_tuning_name(task, init, variant, pair), fine_tuning_seed(pair)
    return build_experiment(
        name, scale.recipes[task], data.fine_tuning(task, variant, seed), seed, weights, handed_on=False
    )


def build_experiment(
    name: str, recipe: Recipe, options: dict, seed: int, weights: Experiment | None, handed_on: bool
) -> Experiment:
    """Return the experiment of a recipe with further options and a SEED; other arguments as of Experiment."""
    options = {**recipe.options, "SOLVER.MAX_ITER": recipe.iterations, **options, "SEED": seed}
    seconds = recipe.overhead + options["SOLVER.MAX_ITER"] * recipe.seconds
    return Experiment(name, recipe.config, options, weights, seconds, handed_on)
