"""Two sides in turns, and in processes of their own."""

import operator
import sys
from contextlib import contextmanager

import pytest
import torch

from pixpro_d2.benchmark import turns


class Side:
    """Steps of ``seconds`` whose losses are ``offset`` apart in the third one."""

    device = torch.device("cpu")
    parts = {}

    def __init__(self, name, log, clock):
        self.name, self.log, self.clock = name, log, clock
        self.count = 0

    def prepare(self):
        pass

    def step(self):
        self.log.append(self.name)
        self.count += 1
        self.clock[0] += {"ours": 1, "reference": 1 + self.count}[self.name]

    def values(self):
        return [1.0, 2.0 + (0.25 if self.name == "ours" and self.count == 3 else 0)]


def test_sides_take_turns_and_ratios_are_of_pairs(monkeypatch):
    log, clock = [], [0.0]
    monkeypatch.setattr("pixpro_d2.benchmark.timing.time.perf_counter", lambda: clock[0])

    @contextmanager
    def here(build, cfg, name, *args):
        side = Side(name, log, clock)
        yield lambda function, *arguments: function(side, *arguments)

    monkeypatch.setattr(turns, "in_process", here)
    result = turns.compare(cfg=None, repeats=3, warmup=1)
    assert log[:8] == ["ours", "reference"] * 4 and len(log) == 10  # and one of each for the parts
    assert result["seconds"] == {"ours": [1, 1, 1], "reference": [3, 4, 5]}
    assert (result["ratio"]["min"], result["ratio"]["median"], result["ratio"]["max"]) == (3, 4, 5)
    assert result["difference"] == 0.25
    assert result["parts"] == {"ours": {"rest": 1}, "reference": {"rest": 6}}


def test_a_process_keeps_its_object_and_returns_errors():
    with turns.in_process(list, "abc") as call:
        assert call(len) == 3
        call(list.append, "d")
        assert call(operator.getitem, 3) == "d"
        with pytest.raises(IndexError):
            call(operator.getitem, 4)
        assert call(len) == 4


def test_a_process_that_dies_is_noticed():
    with turns.in_process(list) as call, pytest.raises(RuntimeError, match="process died"):
        call(sys.exit)
