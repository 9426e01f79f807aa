"""When checkpoints are written, which stay, and what a request to stop does."""

import pytest
import torch
from detectron2.engine import HookBase
from torch import nn

from pixpro_d2.checkpoint import PixProCheckpointer
from pixpro_d2.engine.hooks import CheckpointHook
from pixpro_d2.engine.loop import TrainLoop


class Model(nn.Linear):
    def __init__(self):
        super().__init__(2, 1)

    def forward(self, x):
        return super().forward(x).sum()


class Failing(HookBase):
    """Ends the run after an iteration."""

    def __init__(self, iteration):
        self.iteration = iteration

    def after_step(self):
        if self.trainer.iter == self.iteration:
            raise AssertionError("another hook")


def run(folder, iterations, read_every=1, stop_at=None, fail_at=None, period=1000, **keys):
    """A run of a small model, whose process is asked to stop in iteration ``stop_at``; returns the checkpoints."""
    model = Model()
    loop = TrainLoop(
        model,
        [torch.ones(1, 2)] * iterations,
        torch.optim.SGD(model.parameters(), lr=0.1),
        read_at=lambda i: (i + 1) % read_every == 0,
        asked_to_stop=lambda: stop_at is not None and loop.iter >= stop_at,
    )
    checkpointer = PixProCheckpointer(model, str(folder), trainer=loop)
    loop.register_hooks([Failing(fail_at), CheckpointHook(checkpointer, loop, period, **keys)])
    loop.train(0, iterations)
    return checkpoints(folder)


def checkpoints(folder):
    return sorted(path.name for path in folder.glob("*.pth"))


def numbered(*iterations):
    return [f"model_{i:07d}.pth" for i in iterations]


def test_each_period_and_at_the_end(tmp_path):
    assert run(tmp_path, 7, period=3) == [*numbered(2, 5), "model_final.pth"]
    assert (tmp_path / "last_checkpoint").read_text() == "model_final.pth"
    assert torch.load(tmp_path / "model_0000005.pth", weights_only=True)["iteration"] == 5


def test_by_time_where_losses_are_read(tmp_path):
    assert run(tmp_path, 8, read_every=3, minutes=1e-9) == [*numbered(2, 5), "model_final.pth"]


def test_time_begins_anew_with_each_checkpoint(tmp_path):
    assert run(tmp_path, 8, period=2, minutes=60.0) == [*numbered(1, 3, 5, 7), "model_final.pth"]


def test_only_the_wanted_ones_stay(tmp_path):
    assert run(tmp_path, 12, period=1, keep_last=2, keep_every=5) == [*numbered(4, 9, 10, 11), "model_final.pth"]


@pytest.mark.parametrize("read_every, saved", [(1, 4), (3, 5)])
def test_asked_to_stop_it_saves_and_asks_to_be_requeued(tmp_path, read_every, saved):
    with pytest.raises(SystemExit) as ended:
        run(tmp_path, 20, read_every=read_every, stop_at=4)
    assert ended.value.code == 75
    assert checkpoints(tmp_path) == numbered(saved)
    assert (tmp_path / "last_checkpoint").read_text() == checkpoints(tmp_path)[0]


def test_asked_to_stop_in_the_last_iteration_it_is_done(tmp_path):
    assert run(tmp_path, 5, stop_at=4) == ["model_final.pth"]


@pytest.mark.parametrize("fail_at, saved", [(7, [5, 7]), (5, [5]), (6, [])])
def test_another_hook_that_fails_costs_no_checkpoint(tmp_path, fail_at, saved):
    """Losses are read in iterations 1, 3, 5, 7: before that, statistics may be ruined by a bad batch."""
    with pytest.raises(AssertionError, match="another hook"):
        run(tmp_path, 8, read_every=2, period=6 if fail_at > 6 else 100, fail_at=fail_at)
    assert checkpoints(tmp_path) == numbered(*saved)
