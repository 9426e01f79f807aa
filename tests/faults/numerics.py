"""Losses, gradients and batches that are infinite or NaN, and features that collapse."""

from functools import cache

import torch

from .registry import NOTHING, fault
from .runs import compare, final

HAPPENED = "skipped, with a warning; all but the norms' running statistics as in a run that never took the step"
LOST = "1 step"
DENSECL = ["MODEL.PIXPRO.METHOD", "densecl", "MODEL.PIXPRO.DENSECL.QUEUE_SIZE", 64]


def assert_left_out(ended, folder, reference):
    """Check that a run said that it skipped a step, and ended, to the bit, as one in which nobody asked for it.

    The running statistics of norms must be finite only: a bad loss does not keep a batch out of them, and those that a
    bad batch has ruined go back to the last reading of the losses.
    """
    assert ended.code == 0 and "1 of the 2 steps from iteration " in ended.output, ended
    ours, theirs = final(folder), final(reference)
    assert all(value.isfinite().all() for value in ours["model"].values() if value.is_floating_point())
    for content in (ours, theirs):
        content["model"] = {name: value for name, value in content["model"].items() if "running_" not in name}
    counts = [content["trainer"]["_trainer"].pop("skipped_steps") for content in (ours, theirs)]
    assert counts == [1, 0], counts
    compare(ours, theirs)


@cache
def without_step(runs, at):
    """Folder of a run of whose iteration ``at`` nothing is left, because the optimiser is not asked for its step."""
    folder = runs.new()
    ended = runs.train(*runs.pretraining(), "OUTPUT_DIR", folder, inject="skip", at=at)
    assert ended.code == 0 and "were skipped, because" not in ended.output, ended
    return folder


def trains_around(runs, name, at):
    folder = runs.new()
    ended = runs.train(*runs.pretraining(), "OUTPUT_DIR", folder, inject=name, at=at)
    assert_left_out(ended, folder, without_step(runs, at))
    return HAPPENED, LOST


@fault("a loss that is NaN", "the model's losses times NaN in iteration 10", quick=True)
def nan_loss(runs):
    return trains_around(runs, "nan", 10)


@fault("gradients that are NaN", "finite losses, gradients times NaN in iteration 10", quick=True)
def nan_gradients(runs):
    return trains_around(runs, "nan gradients", 10)


@fault("images that are NaN", "views of NaN in iteration 10, which reach the running statistics of norms", quick=True)
def nan_batch(runs):
    return trains_around(runs, "nan batch", 10)


@fault("images that are NaN from the start", "views of NaN in iteration 0", quick=True)
def nan_first(runs):
    return trains_around(runs, "nan batch", 0)


@fault("images that are NaN after a resume", "views of NaN in the first iteration, 24, after --resume", quick=True)
def nan_resumed(runs):
    words = ["--resume", *runs.pretraining(), "OUTPUT_DIR"]
    folder, reference = runs.cut_off(23), runs.cut_off(23)
    ended = runs.train(*words, folder, inject="nan batch", at=24)
    assert runs.train(*words, reference, inject="skip", at=24).code == 0
    assert_left_out(ended, folder, reference)
    return HAPPENED, LOST


@fault("images that are NaN, with a queue of keys", "densecl, views of NaN in iteration 10", quick=True)
def nan_queue(runs):
    words, folder, reference = [*runs.pretraining(), *DENSECL, "OUTPUT_DIR"], runs.new(), runs.new()
    ended = runs.train(*words, folder, inject="nan batch", at=10)
    assert runs.train(*words, reference, inject="skip", at=10).code == 0
    assert_left_out(ended, folder, reference)
    assert any("queues." in name for name in final(folder)["model"])
    return f"{HAPPENED}; no key of the batch is queued", LOST


@fault("divergence", "SOLVER.BASE_LR 1e30 (SGD), SOLVER.MAX_SKIPPED_STEPS 3", quick=True)
def divergence(runs):
    folder = runs.new()
    keys = ["SOLVER.OPTIMIZER", "SGD", "SOLVER.BASE_LR", 1e30, "SOLVER.MAX_SKIPPED_STEPS", 3]
    error = runs.train(*runs.pretraining(), *keys, "OUTPUT_DIR", folder).error()
    (batch,) = folder.glob("bad_batch_*.pth")
    assert str(batch) in error and "infinite values or NaN" in error and "SOLVER.BASE_LR" in error, error
    assert torch.load(batch, weights_only=True)["views"].shape == (4, 2, 3, 64, 64)
    iteration = int(batch.name.split("_")[2])
    assert iteration < 10
    return f"stopped in iteration {iteration}, batch saved, one sentence with the remedies, exit code 1", NOTHING


@fault("collapse", "the projector's weights 0 from the start: one feature for all pixels", quick=True)
def collapse(runs):
    ended = runs.train(*runs.pretraining(), "OUTPUT_DIR", runs.new(), inject="collapse")
    assert ended.code == 0 and "The features of p3 have collapsed" in ended.output, ended
    assert "collapsed" not in (runs.straight / "log.txt").read_text()
    return "a warning that names level, value and remedies after 10 readings; none where nothing collapses", NOTHING
