"""List the trainings of the demo, as experiments of :mod:`pixpro_d2.extras.study`."""

from dataclasses import dataclass
from pathlib import Path

from ..scenes.scene import CLASSES
from ..study.data import names
from ..study.experiments import Experiment, build_experiment
from ..study.methods import CONTRAST, NO_TERM
from ..study.recipes import BRIEF, PRETRAINED, Recipe

RANDOM = "random weights"
METHODS = {"PixPro": {}, "PixContrast": {**NO_TERM, **CONTRAST}}  # title -> options on top of PRETRAIN
PRETRAIN = "configs/pretrain/quickstart.yaml"
FINE_TUNE = "configs/semseg/fpn_R_18_small.yaml"
SIDE = 96  # side of the scenes, pixels: small, so that two cores process many scenes in minutes


@dataclass(frozen=True)
class Size:
    """Hold the size of the demo: numbers of scenes, of iterations, and the seeds.

    Attributes:
        unlabelled: scenes to pre-train on.
        labelled: scenes to fine-tune on.
        test: scenes to test on.
        pretraining: iterations of a pre-training.
        fine_tuning: iterations of a fine-tuning.
        seeds: seeds of pre-training and fine-tuning.
    """

    unlabelled: int
    labelled: int
    test: int
    pretraining: int
    fine_tuning: int
    seeds: tuple[int, ...]


SIZES = {
    "demo": Size(unlabelled=1000, labelled=100, test=200, pretraining=160, fine_tuning=220, seeds=(0, 1, 2)),
    "smoke": Size(unlabelled=16, labelled=4, test=2, pretraining=2, fine_tuning=2, seeds=(0, 1)),
}


def scenes_folder(output: Path, part: str) -> Path:
    """Return the folder of the scenes ``unlabelled`` or ``labelled``; ``output`` is an absolute path."""
    return output / "scenes" / part


def tested_scenes(output: Path) -> str:
    """Return the name of the data set to test on."""
    return f"voc_seg:{scenes_folder(output, 'labelled')}@test"


def list_experiments(output: Path, size: Size, device: str) -> list[Experiment]:
    """Return the trainings, seed by seed: each pre-training before its fine-tuning."""
    found = []
    for seed in size.seeds:
        for title in (RANDOM, *METHODS):
            weights = None if title == RANDOM else _pretraining(output, size, device, title, seed)
            found += [weights] if weights else []
            found.append(_fine_tuning(output, size, device, title, seed, weights))
    return found


def fine_tuning_name(title: str, seed: int) -> str:
    """Return the name of the fine-tuning from an initialisation."""
    return f"fine-tune-{_key(title)}-seed{seed}"


def pretraining_name(title: str, seed: int) -> str:
    """Return the name of the pre-training by one of METHODS."""
    return f"pretrain-{_key(title)}-seed{seed}"


def _key(title: str) -> str:
    return title.split()[0].lower()


def _pretraining(output: Path, size: Size, device: str, title: str, seed: int) -> Experiment:
    options = {
        **PRETRAINED,
        "DATASETS.TRAIN": names(f"images:{scenes_folder(output, 'unlabelled') / 'JPEGImages'}"),
        "INPUT.PIXPRO.CROP_SIZE": 64,
        "SOLVER.WARMUP_ITERS": size.pretraining // 10,
        "SOLVER.CHECKPOINT_PERIOD": 100,
        "MODEL.DEVICE": device,
        **METHODS[title],
    }
    recipe = Recipe(PRETRAIN, size.pretraining, 0.4, 20, options)
    return build_experiment(pretraining_name(title, seed), recipe, {}, seed, None, handed_on=True)


def _fine_tuning(
    output: Path, size: Size, device: str, title: str, seed: int, weights: Experiment | None
) -> Experiment:
    options = {
        **BRIEF,
        "DATASETS.TRAIN": names(f"voc_seg:{scenes_folder(output, 'labelled')}@train"),
        "DATASETS.TEST": names(tested_scenes(output)),
        "MODEL.SEM_SEG_HEAD.NUM_CLASSES": 1 + len(CLASSES),  # and the background
        "INPUT.MIN_SIZE_TRAIN": f"({SIDE}, {SIDE * 4 // 3})",
        "INPUT.CROP.SIZE": f"[{SIDE}, {SIDE}]",
        "INPUT.MIN_SIZE_TEST": SIDE,
        "SOLVER.IMS_PER_BATCH": 8,
        "SOLVER.STEPS": f"({size.fine_tuning * 4 // 5},)",
        "SOLVER.WARMUP_ITERS": size.fine_tuning // 10,
        "SOLVER.CHECKPOINT_PERIOD": 100,
        "MODEL.DEVICE": device,
    }
    recipe = Recipe(FINE_TUNE, size.fine_tuning, 0.15, 20, options)
    # handed_on keeps the checkpoint for the pictures.
    return build_experiment(fine_tuning_name(title, seed), recipe, {}, seed, weights, handed_on=True)
