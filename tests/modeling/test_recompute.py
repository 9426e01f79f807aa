"""Recomputing stages changes what is kept, not what is computed."""

import copy

import method_helpers
import pytest
import torch
from detectron2.layers import NaiveSyncBatchNorm
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage
from torch import nn

import configs
from pixpro_d2.modeling.recompute import recompute_stages
from pixpro_d2.utils.errors import UsageError

REGNET = ["MODEL.BACKBONE.NAME", "build_regnet_fpn_backbone", "MODEL.REGNETS.OUT_FEATURES", ["s2", "s3", "s4"],
          "MODEL.FPN.IN_FEATURES", ["s2", "s3", "s4"], "MODEL.PIXPRO.ZERO_INIT_RESIDUAL", False]  # fmt: skip


def step(model, batch):
    """Losses, gradients and buffers after one forward and backward pass, and the bytes kept in between."""
    kept = {}

    def keep(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with EventStorage(), torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        losses = model(batch)
    sum(losses.values()).backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return losses, gradients, dict(model.named_buffers()), sum(kept.values())


def equal(actual, expected):
    assert actual.keys() == expected.keys()
    for name in expected:
        assert torch.equal(actual[name], expected[name]), name


@pytest.mark.parametrize("opts", [[], REGNET], ids=["ResNet-FPN", "RegNet-FPN"])
def test_same_losses_gradients_and_statistics_with_less_kept(opts):
    torch.manual_seed(0)
    model = build_model(configs.tiny(*opts)).train()
    other = copy.deepcopy(model)
    recompute_stages(other.backbone)
    batch = method_helpers.crops([True, True, True, False])
    losses, gradients, buffers, kept = step(model, batch)
    losses_again, gradients_again, buffers_again, kept_again = step(other, batch)
    equal(losses_again, losses)
    equal(gradients_again, gradients)
    equal(buffers_again, buffers)  # running statistics and their counters: as if the batch was seen once
    assert kept_again < 0.8 * kept
    assert all(norm.momentum == 0.1 for norm in other.modules() if isinstance(norm, nn.BatchNorm2d))


@pytest.mark.parametrize("norm_class", [NaiveSyncBatchNorm, nn.SyncBatchNorm])
def test_norms_of_several_processes_are_left_alone_too(norm_class):
    class Stages(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, norm = nn.Conv2d(3, 4, 1), norm_class(4)
            self.stages = [nn.Sequential(nn.Conv2d(4, 4, 1), norm)]
            self.stage, self.norm = self.stages[0], norm

        def forward(self, x):
            return self.stages[0](self.stem(x))

    torch.manual_seed(0)
    network = Stages()
    other = copy.deepcopy(network)
    other.stages = [other.stage]
    recompute_stages(other)
    x = torch.randn(2, 3, 4, 4)
    for part in (network, other):
        part(x).square().sum().backward()
    assert torch.equal(other.norm.running_mean, network.norm.running_mean)
    assert other.norm.num_batches_tracked == network.norm.num_batches_tracked == 1
    assert not torch.equal(network.norm.running_mean, torch.zeros(4))


def test_a_random_stage_draws_the_same_numbers_again():
    class Stages(nn.Module):
        def __init__(self):
            super().__init__()
            self.stages = nn.ModuleList([nn.Sequential(nn.Linear(50, 50), nn.Dropout(0.5))])

        def forward(self, x):
            return self.stages[0](x)

    network, x = Stages(), torch.randn(4, 50)
    other = copy.deepcopy(network)
    recompute_stages(other)
    for part in (network, other):
        torch.manual_seed(0)
        part(x).square().sum().backward()
    gradients = [part.stages[0][0].weight.grad for part in (network, other)]
    assert gradients[0].any() and torch.equal(*gradients)


def test_backbone_without_stages_is_refused():
    with pytest.raises(UsageError, match="needs a ResNet, .*; the backbone is a Conv2d: set it False"):
        recompute_stages(nn.Conv2d(3, 4, 1))
