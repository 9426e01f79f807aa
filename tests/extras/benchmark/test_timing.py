"""Clocks of steps and parts, by a clock that is set by hand."""

import pytest
import torch

from pixpro_d2.extras.benchmark import timing


class Clock:
    """Stands for the clock; ``steps`` of one second, and parts that call each other."""

    device = torch.device("cpu")

    def __init__(self):
        self.now = 0.0

    def perf_counter(self):
        return self.now

    def prepare(self):
        self.now += 100

    def step(self):
        self.now += 1
        self.outer()
        self.outer()

    def outer(self):
        self.now += 10
        self.inner()

    def inner(self):
        self.now += 0.5

    @property
    def parts(self):
        return {"outer": (self, "outer"), "inner": (self, "inner")}


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(timing.time, "perf_counter", clock.perf_counter)
    return clock


def test_what_a_step_needs_is_not_measured(clock):
    assert timing.time_steps(clock, 3) == [22, 22, 22]  # 1 + 2 * (10 + 0.5)
    assert clock.now == 3 * 122


def test_a_part_counts_without_those_it_calls(clock):
    assert timing.time_parts(clock, 2) == {"outer": 20, "inner": 1, "rest": 1}
    assert clock.now == 2 * 122
    assert not {"step", "outer", "inner"} & vars(clock).keys()  # the methods are those of the class again


def test_a_part_that_fails_leaves_nothing_behind(clock):
    def fail():
        raise KeyError

    clock.inner = fail
    with pytest.raises(KeyError):
        timing.time_parts(clock, 1)
    assert clock.inner is fail and "outer" not in vars(clock)


def test_quartiles():
    # Quartiles lie between the two nearest values in proportion: of 1, 2 they are 1.25 and 1.75.
    names = ("min", "lower_quartile", "median", "upper_quartile", "max")
    assert timing.quartiles([5, 1, 4, 2, 3]) == dict(zip(names, [1, 2, 3, 4, 5]))
    assert timing.quartiles([2, 1]) == dict(zip(names, [1, 1.25, 1.5, 1.75, 2]))
