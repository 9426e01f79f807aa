"""The step of lightly that is measured in turns with ours."""

import copy
import sys

import pytest
import torch
from benchmark_helpers import C5, FPN, measured

from pixpro_d2.extras.benchmark.lightly_step import LightlyStep
from pixpro_d2.utils.errors import UsageError


def test_it_is_byol():
    pytest.importorskip("lightly")
    step = LightlyStep(measured(C5))
    before, target = copy.deepcopy(step.encoder), copy.deepcopy(step.target_encoder)
    step.step()
    assert step.encoder[0].fc(torch.ones(2)).tolist() == [1, 1]  # no classifier
    assert -1 <= step.values()[0] <= 1  # a negative cosine
    pairs = zip(target.parameters(), before.parameters(), step.target_encoder.parameters())
    for old, online, new in pairs:
        assert torch.allclose(new, 0.99 * old + 0.01 * online)
    assert any(not torch.equal(a, b) for a, b in zip(before.parameters(), step.encoder.parameters()))


def test_lightly_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "lightly", None)
    monkeypatch.delitem(sys.modules, "lightly.loss", raising=False)
    with pytest.raises(UsageError, match="pip install lightly"):
        LightlyStep(measured(C5))


@pytest.mark.parametrize("config, options", [(FPN, ()), (C5, ("INPUT.AUG_DEVICE", "model"))])
def test_configs_that_lightly_has_not(config, options, monkeypatch):
    monkeypatch.setattr("pixpro_d2.extras.benchmark.lightly_step._import_lightly", lambda: None)
    with pytest.raises(UsageError, match="plain ResNet"):
        LightlyStep(measured(config, *options))
