"""Two sides in turns, and in processes of their own."""

import math
import operator
import sys
from contextlib import contextmanager

import pytest
import torch

from pixpro_d2.extras.benchmark import turns


class Side:
    """Steps whose losses are ``apart`` in the third one."""

    device = torch.device("cpu")
    parts = {}

    def __init__(self, name, log, clock, apart):
        self.name, self.log, self.clock, self.apart = name, log, clock, apart
        self.count = 0

    def prepare(self):
        pass

    def step(self):
        self.log.append(self.name)
        self.count += 1
        self.clock[0] += 1 if self.name == "ours" else 1 + self.count

    def values(self):
        if self.name == "lightly":
            return [7.0]
        return [1.0, 2.0 + (self.apart if self.name == "reference" and self.count == 3 else 0)]


@pytest.fixture
def compare(monkeypatch):
    """``compare(apart)``: its result and the order of steps, by a clock that is set by hand."""
    log, clock = [], [0.0]
    monkeypatch.setattr("pixpro_d2.extras.benchmark.timing.time.perf_counter", lambda: clock[0])

    def function(apart, **options):
        @contextmanager
        def here(build, cfg, name, *args):
            side = Side(name, log, clock, apart)
            yield lambda function, *arguments: function(side, *arguments)

        monkeypatch.setattr(turns, "in_process", here)
        return turns.compare(cfg=None, repeats=3, warmup=1, **options), log

    return function


def test_sides_take_turns_and_ratios_are_of_pairs(compare):
    result, log = compare(apart=0.25)
    assert log[:8] == ["ours", "reference"] * 4 and len(log) == 10  # and one of each for the parts
    assert result["seconds"] == {"ours": [1, 1, 1], "reference": [3, 4, 5]}
    assert (result["ratio"]["min"], result["ratio"]["median"], result["ratio"]["max"]) == (3, 4, 5)
    assert result["difference"] == 0.25
    assert result["parts"] == {"ours": {"rest": 1}, "reference": {"rest": 6}}


def test_a_reference_that_diverges_shows(compare):
    result, _ = compare(apart=math.nan)  # in one value of one step
    assert math.isnan(result["difference"])


def test_a_peer_with_another_loss_is_timed_only(compare):
    result, log = compare(apart=0, peer="lightly")
    assert log[:2] == ["ours", "lightly"] and result["difference"] is None
    assert result["seconds"]["lightly"] == [3, 4, 5] and result["ratio"]["median"] == 4


def test_a_process_keeps_its_object_and_returns_errors():
    with turns.in_process(list, "abc") as call:
        assert call(len) == 3
        call(list.append, "d")
        assert call(operator.getitem, 3) == "d"
        with pytest.raises(IndexError):
            call(operator.getitem, 4)
        assert call(len) == 4


def test_a_process_that_dies_is_noticed():
    with turns.in_process(list) as call:
        for _ in range(2):  # while it computes, and before it is asked
            with pytest.raises(RuntimeError, match="process died"):
                call(sys.exit)
