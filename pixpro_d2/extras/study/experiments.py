"""List the experiments of a study: the trainings that answer its questions, each with its complete options.

Fine-tunings are nested in pre-trainings. The pair (p, f) is fine-tuning number f from the pre-training with seed p. The
SEED of a fine-tuning differs between pairs and is the same for every initialisation. SEED draws the new weights, the
order of the data and, for few labelled images, these images. So pairs with different p are independent, also for random
weights. Initialisations are compared pair by pair.
"""

import re
from dataclasses import dataclass

from ...utils.errors import UsageError
from .data import StudyData
from .methods import METHODS, PARTS, RANDOM, Part
from .recipes import Recipe, Scale

FINE_TUNINGS = 100  # upper bound for one pre-training: SEED of the pair (p, f) is 100 p + f

Pair = tuple[int, int]  # (seed of the pre-training, number of the fine-tuning)


@dataclass(frozen=True)
class Experiment:
    """Describe one training.

    Attributes:
        name: name of its folder and its result.
        config: path relative to the checkout.
        options: value by config key, without the keys for weights and output.
        weights: pre-training whose weights the training starts from; None for none.
        seconds: approximate duration.
        handed_on: whether other trainings start from its weights; if so, the weights are kept.
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

    Without a ``pair``, return the common beginning of the names of all pairs.
    """
    return f"{task}-{init}-{variant}-seed" + ("{}-{}".format(*pair) if pair else "")


def pair_of(name: str, start: str) -> Pair | None:
    """Return the pair of a fine-tuning whose name begins with ``start``; None for the name of another experiment."""
    found = re.fullmatch(re.escape(start) + r"(\d+)-(\d+)", name)
    return (int(found[1]), int(found[2])) if found else None


def fine_tuning_seed(pair: Pair) -> int:
    """Return SEED of the fine-tuning of a pair.

    Raises:
        UsageError: if another pair has the same SEED.
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
    """Return the experiments in the order to run; experiments that several parts need come once.

    All experiments of one pre-training seed precede the next seed, so that an incomplete study is balanced.
    Fine-tunings follow the pre-training that they start from.

    Args:
        parts: keys of PARTS.
        pretraining_seeds: seeds of the pre-training.
        seeds: numbers of the fine-tunings of each pre-training.
        scale: recipes of the experiments.
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
            found += [_fine_tuning(task, init, variant, pair, weights, scale, data) for task, variant, pair in runs]
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
    """Return the experiment of a recipe with further options and a SEED; see Experiment for the other arguments."""
    options = {**recipe.options, "SOLVER.MAX_ITER": recipe.iterations, **options, "SEED": seed}
    seconds = recipe.overhead + options["SOLVER.MAX_ITER"] * recipe.seconds
    return Experiment(name, recipe.config, options, weights, seconds, handed_on)
