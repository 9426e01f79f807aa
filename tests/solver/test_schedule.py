import oracle
import pytest
import torch
from detectron2.solver import LRMultiplier
from fvcore.common.param_scheduler import ParamScheduler

from pixpro_d2.solver.schedule import warmup_cosine

ETA = 1e-6


@pytest.mark.parametrize(
    "iteration, expected",
    [
        pytest.param(iteration, lr, id=f"T15-{iteration}")
        for iteration, lr in [
            (0, 0.04),
            (1, 0.238),
            (10, 2.02),
            (19, 3.802),
            (20, 4.0),
            (21, 3.99845807),
            (59, 2.07852011),
            (60, 2.0000005),
            (61, 1.92148089),
            (99, 0.00154293),
            (100, 0.000001),
        ]
    ],
)
def test_learning_rate(iteration, expected):
    # 10 epochs of 10 iterations, 2 of them warm-up, base learning rate 4.
    schedule = warmup_cosine(20, 100, warmup_factor=0.01, end_factor=ETA / 4)
    assert isinstance(schedule, ParamScheduler)
    assert 4 * schedule(iteration / 100) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    "iteration, expected",
    [
        pytest.param(iteration, lr, id=f"S14-{iteration}")
        for iteration, lr in [
            (0, 0.02),
            (1, 0.0596),
            (25, 1.01),
            (49, 1.9604),
            (50, 2.0),
            (51, 1.99978068),
            (125, 1.0000005),
            (199, 0.00022032),
            (200, 0.000001),
        ]
    ],
)
def test_learning_rate_of_slotcons_recipe(iteration, expected):
    # 20 epochs of 10 iterations, 5 of them warm-up, base learning rate 2.
    schedule = warmup_cosine(50, 200, warmup_factor=0.01, end_factor=ETA / 2)
    assert 2 * schedule(iteration / 200) == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize(
    "base, warmup_iters, total_iters", [(4.0, 7, 53), (0.03, 1, 10), (1.0, 0, 17), (2.828, 625, 1251)]
)
def test_other_lengths_against_slow(base, warmup_iters, total_iters):
    schedule = warmup_cosine(warmup_iters, total_iters, end_factor=ETA / base)
    for iteration in range(total_iters + 1):
        slow = oracle.lr_slow(iteration, base, warmup_iters, total_iters)
        assert base * schedule(iteration / total_iters) == pytest.approx(slow, abs=1e-6), iteration


def test_without_warm_up_it_starts_at_the_base():
    schedule = warmup_cosine(0, 50)
    assert schedule(0.0) == pytest.approx(1.0)
    assert schedule(0.5) == pytest.approx(0.5)
    assert schedule(1.0) == pytest.approx(0.0, abs=1e-9)


def test_warm_up_factor():
    schedule = warmup_cosine(10, 100, warmup_factor=0.1)
    assert schedule(0.0) == pytest.approx(0.1)
    assert schedule(0.05) == pytest.approx(0.55)


def test_drives_a_whole_run():
    # detectron2 steps the scheduler after the last iteration too, at exactly 1.
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=4.0)
    scheduler = LRMultiplier(optimizer, warmup_cosine(20, 100, end_factor=ETA / 4), max_iter=100)
    for iteration in range(100):
        lr = optimizer.param_groups[0]["lr"]
        assert lr == pytest.approx(oracle.lr_slow(iteration, 4.0, 20, 100), abs=1e-6), iteration
        optimizer.step()
        scheduler.step()
    assert optimizer.param_groups[0]["lr"] == pytest.approx(ETA, abs=1e-6)
