"""Saving and resuming real models."""

import os

import numpy as np
import pytest
import torch
import torchvision
from checkpoint_helpers import save_pretraining
from detectron2.modeling import build_model
from fvcore.common.checkpoint import PeriodicCheckpointer

import configs
from pixpro_d2.checkpoint import PixProCheckpointer
from pixpro_d2.checkpoint.convention import MSRA, TORCHVISION
from pixpro_d2.utils.errors import UsageError


def build(*opts):
    return build_model(configs.tiny(*opts))


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    return save_pretraining(tmp_path_factory.mktemp("pretrained"))


def test_resume_restores_everything_and_returns_the_rest(pretrained, tmp_path):
    model, _ = pretrained
    checkpointer = PixProCheckpointer(model, str(tmp_path))
    checkpointer.save("model_0000009", iteration=9)
    other = build()
    rest = PixProCheckpointer(other, str(tmp_path)).resume()
    assert rest["iteration"] == 9
    for name, value in other.state_dict().items():
        assert torch.equal(value, model.state_dict()[name]), name


def test_checkpoints_hold_nothing_that_a_safe_loader_refuses(pretrained):
    _, path = pretrained
    loaded = torch.load(path, weights_only=True)
    assert loaded["iteration"] == 7 and all(isinstance(v, torch.Tensor) for v in loaded["model"].values())
    assert not any(isinstance(v, np.generic) for v in loaded.values())


def test_a_run_resumes_whatever_the_convention(pretrained, tmp_path):
    model, _ = pretrained
    PixProCheckpointer(model, str(tmp_path), convention=TORCHVISION).save("model_final", iteration=1)
    assert PixProCheckpointer(build(), str(tmp_path), convention=MSRA).resume()["iteration"] == 1


def test_another_depth_cannot_be_resumed(pretrained):
    """Every weight of the shallower model is in the deeper one's checkpoint; the reverse misses some."""
    _, path = pretrained
    folder = os.path.dirname(path)
    deeper = build("MODEL.RESNETS.DEPTH", 34)
    with pytest.raises(UsageError, match=r"model_final.pth does not fit this config's model \(it has no \S*res2\.2"):
        PixProCheckpointer(deeper, folder).resume()


def test_weights_of_another_format_cannot_be_resumed_from(tmp_path):
    torch.save(torchvision.models.resnet18().state_dict(), tmp_path / "model_final.pth")
    with pytest.raises(UsageError, match="model_final.pth is no checkpoint of such a run: it has no 'model'"):
        PixProCheckpointer(torch.nn.Linear(1, 1), str(tmp_path)).resume()


def test_detectron2s_periodic_checkpointer_takes_it(tmp_path):
    periodic = PeriodicCheckpointer(PixProCheckpointer(torch.nn.Linear(1, 1), str(tmp_path)), 1, max_to_keep=2)
    for iteration in range(4):
        periodic.step(iteration)
    assert sorted(path.name for path in tmp_path.glob("*.pth")) == ["model_0000002.pth", "model_0000003.pth"]
