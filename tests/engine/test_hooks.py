"""Random numbers of an iteration, the learning rate that is recorded, and the warning of collapse."""

import contextlib
import math
import random

import numpy as np
import pytest
import torch
from detectron2.engine.train_loop import TrainerBase
from detectron2.modeling import build_model
from detectron2.utils import comm

import configs
from pixpro_d2.checkpoint import PixProCheckpointer
from pixpro_d2.checkpoint.convention import TORCHVISION
from pixpro_d2.checkpoint.plain_backbone import FILE
from pixpro_d2.engine.hooks import CollapseHook, LRScheduler, PlainBackboneHook, PreciseBN, SeedHook
from pixpro_d2.solver.build import lars_groups
from pixpro_d2.solver.lars import LARS


class Drawing(TrainerBase):
    """Draws in every step from all generators that a model may use, and records what a test gives it."""

    def __init__(self, hook, record=lambda trainer: None):
        super().__init__()
        self.drawn, self.record = [], record
        self.register_hooks([hook])

    def run_step(self):
        self.drawn.append((torch.rand(()).item(), np.random.rand(), random.random()))
        self.record(self)


def drawn(seed, start=0, stop=4):
    trainer = Drawing(SeedHook(seed))
    trainer.train(start, stop)
    return trainer.drawn


def test_a_resumed_run_draws_what_the_straight_one_draws(monkeypatch):
    straight = drawn(7)
    torch.rand(100), np.random.rand(3), random.random()  # another process has another past
    assert drawn(7, start=2) == straight[2:]
    assert len({x for numbers in straight for x in numbers}) == 12  # and no number comes twice
    assert not set(drawn(8)) & set(straight)
    monkeypatch.setattr(comm, "get_rank", lambda: 1)
    assert not set(drawn(7)) & set(straight)


def test_the_rate_of_most_weights_is_recorded():
    """Not that of most tensors, which are biases and norms."""
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8))
    optimizer = LARS(lars_groups(net, 2.0, factor_1d=0.05), lr=2.0)
    assert [len(group["params"]) for group in optimizer.param_groups] == [1, 3]
    rates = []
    hook = LRScheduler(optimizer, torch.optim.lr_scheduler.StepLR(optimizer, step_size=2, gamma=0.5))
    trainer = Drawing(hook, lambda trainer: rates.append(trainer.storage.latest().get("lr")))
    optimizer.step()
    trainer.train(0, 4)
    assert rates == [None, (2.0, 0), (2.0, 1), (1.0, 2)]


def test_precise_statistics_from_a_loader_of_another_kind():
    """Means of the batches (1, 3) and (5, 7)."""
    norm = torch.nn.BatchNorm1d(1)
    PreciseBN(1, norm, [torch.tensor([[1.0], [3.0]]), torch.tensor([[5.0], [7.0]])], 2).update_stats()
    assert norm.running_mean.item() == 4


def warnings_of(caplog, values, share=0.1, dim=16):
    """Iterations at which the hook warned, of a feature_std that is recorded in every other iteration."""
    warned = []

    def record(trainer):
        if trainer.iter % 2 == 1:
            trainer.storage.put_scalar("feature_std/p3", values[trainer.iter // 2], smoothing_hint=False)

    class Hook(CollapseHook):
        def after_step(self):
            super().after_step()
            if caplog.records and caplog.records[-1].levelname == "WARNING":
                warned.append(self.trainer.iter)
                caplog.clear()

    Drawing(Hook(share, dim), record).train(0, 2 * len(values))
    return warned


@pytest.mark.parametrize(
    "values, expected",
    [
        ([0.024] * 12, [19]),  # below 0.1 / sqrt(16) = 0.025, ten readings in a row; told once
        ([0.026] * 12, []),
        ([0.024] * 9 + [0.026] + [0.024] * 9, []),  # a dip is none
        ([0.024] * 10 + [0.1] + [0.0] * 10, [19, 41]),  # it had recovered: told again
    ],
)
def test_collapse_is_told_when_it_lasts(caplog, values, expected):
    assert math.isclose(CollapseHook(0.1, 16).threshold, 0.025)
    assert warnings_of(caplog, values) == expected


@pytest.mark.parametrize("fails, files", [(False, [FILE]), (True, [])])
def test_only_a_finished_run_leaves_its_backbone(fails, files, tmp_path):
    def step(trainer):
        assert not (fails and trainer.iter == 1)

    model = build_model(configs.tiny())
    hook = PlainBackboneHook(PixProCheckpointer(model, str(tmp_path)), TORCHVISION)
    with contextlib.suppress(AssertionError):
        Drawing(hook, step).train(0, 2)
    assert [path.name for path in tmp_path.iterdir()] == files
