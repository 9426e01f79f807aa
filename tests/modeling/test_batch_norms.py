"""Batch norms of a built network become others with the same values, and keep their activations."""

import copy

import pytest
import timm
import torch
from detectron2.layers import FrozenBatchNorm2d, NaiveSyncBatchNorm
from torch import nn

from pixpro_d2.modeling.batch_norms import convert_batch_norms


@pytest.fixture(scope="module")
def network():
    """A network of timm whose batch norms include activations, with statistics of its own."""
    torch.manual_seed(0)
    network = timm.create_model("mobilenetv3_small_050", num_classes=0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
            module.weight.data.uniform_(0.5, 2)
            module.eps, module.momentum = 1e-3, 0.3
    return network.eval()


@pytest.mark.parametrize(
    "norm, norm_class",
    [
        ("BN", nn.BatchNorm2d),
        ("SyncBN", nn.SyncBatchNorm),
        ("nnSyncBN", nn.SyncBatchNorm),
        ("naiveSyncBN", NaiveSyncBatchNorm),
        ("naiveSyncBN_N", NaiveSyncBatchNorm),
        ("FrozenBN", FrozenBatchNorm2d),
    ],
)
def test_every_norm_is_converted_and_the_network_computes_the_same(network, norm, norm_class):
    converted = copy.deepcopy(network)
    convert_batch_norms(converted, norm)
    norms = [name for name, module in network.named_modules() if isinstance(module, nn.BatchNorm2d)]
    new = [converted.get_submodule(name) for name in norms]
    assert len(norms) == 34 and all(isinstance(module, norm_class) for module in new)
    assert all(module.eps == 1e-3 and not module.training for module in new)
    values = {name: x for name, x in network.state_dict().items() if norm != "FrozenBN" or "num_batches" not in name}
    assert converted.state_dict().keys() == values.keys()
    images = torch.randn(2, 3, 64, 64)
    assert torch.allclose(converted(images), network(images), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("norm", ["SyncBN", "naiveSyncBN", "FrozenBN"])
def test_the_norms_stay_on_the_device_of_the_network(norm):
    """A model is on its device before its trunk is frozen; the device "meta" stands for a GPU."""
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)).to("meta")
    convert_batch_norms(network, norm)
    assert {value.device.type for value in network.state_dict().values()} == {"meta"}


def test_norms_that_are_trained_keep_their_momentum_and_frozen_ones_have_no_parameters(network):
    naive, frozen = copy.deepcopy(network), copy.deepcopy(network)
    convert_batch_norms(naive, "naiveSyncBN_N")
    assert (naive.bn1.momentum, naive.bn1._stats_mode, naive.bn1.training) == (0.3, "N", False)
    convert_batch_norms(frozen, "FrozenBN")
    assert not [name for name, _ in frozen.named_parameters() if "bn" in name]
    convert_batch_norms(naive, "FrozenBN")  # a training in several processes has a frozen backbone too
    images = torch.randn(1, 3, 64, 64)
    assert torch.equal(naive(images), frozen(images))


def test_layer_norms_stay():
    network = nn.Sequential(nn.LayerNorm(4), nn.GroupNorm(2, 4), nn.BatchNorm1d(4))
    before = list(network)
    convert_batch_norms(network, "FrozenBN")
    assert list(network) == before
