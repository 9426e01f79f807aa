"""Estimators by name."""

import pytest
import torch

from pixpro_d2.flow.estimators import build_estimator
from pixpro_d2.utils.errors import UsageError


def test_the_default_needs_no_weights():
    estimator = build_estimator()
    assert (estimator.name, estimator.scale) == ("dis", 8)
    frames = torch.zeros(2, 3, 40, 48, dtype=torch.uint8)
    assert torch.equal(estimator(frames, frames), torch.zeros(2, 2, 5, 6))


def test_raft_by_name():
    estimator = build_estimator("raft_small", "random", scale=4)
    assert (estimator.name, estimator.scale) == ("raft_small (random)", 4)
    assert sum(p.numel() for p in estimator.network.parameters()) == 990_162
    assert build_estimator("raft_large", "random").name == "raft_large (random)"
    assert not isinstance(estimator, torch.nn.Module)  # or a model that holds it would train and save it


def test_what_cannot_be_built_is_named():
    with pytest.raises(UsageError, match="'farneback'; it must be dis, raft_small or raft_large"):
        build_estimator("farneback")
    with pytest.raises(UsageError, match="dis takes no weights, but raft.pth"):
        build_estimator("dis", "raft.pth")
    for device in ("gpu", "cuda:99"):
        with pytest.raises(UsageError, match=f"raft_small cannot run on the device '{device}'"):
            build_estimator("raft_small", "random", device)
