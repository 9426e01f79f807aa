"""Losses and gradients that are infinite or NaN, and features that collapse."""

import torch

from .commands import here
from .injected import injected
from .registry import NOTHING, fault


def trains_around(runs, name):
    """Train with a fault in iteration 10; checks that this step is left out, and what remains is finite."""
    folder = runs.new()
    with injected(name, at=10):
        ended = here(*runs.pretraining(), "OUTPUT_DIR", folder)
    assert ended.code == 0 and "1 of the 2 steps from iteration 10 to 11 were left out" in ended.output, ended
    weights = torch.load(folder / "model_final.pth", weights_only=True)["model"]
    assert all(value.isfinite().all() for value in weights.values() if value.is_floating_point())
    straight = torch.load(runs.straight / "model_final.pth", weights_only=True)["model"]
    assert any(not torch.equal(value, straight[name]) for name, value in weights.items())
    return "the step is left out, with a warning; the run ends with finite weights", "1 step"


@fault("a loss that is NaN", "the model's losses times NaN in iteration 10", quick=True)
def nan_loss(runs):
    return trains_around(runs, "nan")


@fault("gradients that are NaN", "finite losses, gradients times NaN in iteration 10", quick=True)
def nan_gradients(runs):
    return trains_around(runs, "nan gradients")


@fault("divergence", "SOLVER.BASE_LR 1e30 (SGD), SOLVER.MAX_SKIPPED_STEPS 3", quick=True)
def divergence(runs):
    folder = runs.new()
    keys = ["SOLVER.OPTIMIZER", "SGD", "SOLVER.BASE_LR", 1e30, "SOLVER.MAX_SKIPPED_STEPS", 3]
    error = here(*runs.pretraining(), *keys, "OUTPUT_DIR", folder).error()
    (batch,) = folder.glob("bad_batch_*.pth")
    assert str(batch) in error and "infinite or NaN" in error and "SOLVER.BASE_LR" in error, error
    assert torch.load(batch, weights_only=True)["views"].shape == (4, 2, 3, 64, 64)
    iteration = int(batch.name.split("_")[2])
    assert iteration < 10
    return f"stopped in iteration {iteration}, batch saved, one sentence with the remedies, exit code 1", NOTHING


@fault("collapse", "the projector's weights 0 from the start: one feature for all pixels", quick=True)
def collapse(runs):
    with injected("collapse"):
        ended = here(*runs.pretraining(), "OUTPUT_DIR", runs.new())
    assert ended.code == 0 and "The features of p3 have collapsed" in ended.output, ended
    assert "collapsed" not in (runs.straight / "log.txt").read_text()
    return "a warning that names level, value and remedies after 10 readings; none where nothing collapses", NOTHING
