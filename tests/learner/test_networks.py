"""Networks of other people: norms with activations, replaced functions, adapters, and what they need afterwards."""

import pickle
import warnings

import pytest
import timm
import torch
from learner_helpers import SMALL, images, small_learner, small_net
from torch import nn

from pixpro_d2 import PixelLearner
from pixpro_d2.data.pretrain.device_views import numpy_rng
from pixpro_d2.learner.features import LayerFeatures
from pixpro_d2.modeling.pretrain.methods import PixProMethod
from pixpro_d2.modeling.pretrain.methods.slotcon import SlotConMethod
from pixpro_d2.modeling.pretrain.slot_heads import SlotPredictor
from pixpro_d2.utils.errors import UsageError
from pixpro_d2.utils.modules import eval_mode


def test_batch_norms_over_processes_keep_their_activations():
    """PyTorch's converter drops those inside timm's batch norms, without a word."""
    torch.manual_seed(0)
    net = timm.create_model("mobilenetv3_small_050", num_classes=0).eval()
    x = torch.rand(2, 3, 64, 64)
    expected = net(x)
    learner = PixelLearner(net, "blocks.2", image_size=64, hidden_dim=16, out_dim=8)
    learner.sync_batch_norms()
    torch.testing.assert_close(net.eval()(x), expected)
    assert not any(type(module).__name__.startswith("BatchNorm") for module in learner.modules())


def test_slots_that_do_not_count_stay_out_of_norms_over_processes():
    method = SlotConMethod(["body"], 8, 6, SlotPredictor(8, 16))
    learner = PixelLearner(small_net(), "body", method=method, **SMALL)
    norm = method.predictor.first_norm
    learner.sync_batch_norms()
    assert method.predictor.first_norm is norm and norm.synced
    assert isinstance(learner.projector["body"][1], nn.SyncBatchNorm)


def test_a_layer_that_is_a_batch_norm_is_still_read():
    net = nn.Sequential(nn.Conv2d(3, 8, 3, 4, 1), nn.BatchNorm2d(8))
    learner = PixelLearner(net, -1, **SMALL).eval()  # SyncBatchNorm trains only in a process group
    expected, _ = learner(images(), torch.Generator().manual_seed(0))
    learner.sync_batch_norms()
    assert isinstance(net[1], nn.SyncBatchNorm) and len(net[1]._forward_hooks) == 1
    torch.testing.assert_close(learner(images(), torch.Generator().manual_seed(0))[0], expected)


def test_a_forward_that_names_the_network_is_refused():
    """The momentum copy would run the network that learns."""
    for layer in (None, "body"):
        net = small_net()
        net.forward = lambda x, net=net: net.body(net.stem(x))
        with pytest.raises(UsageError, match="^The forward of the network is a function that names the network"):
            PixelLearner(net, layer, **SMALL)
        assert not any(module._forward_pre_hooks for module in net.modules())
    net = small_net()
    net.pool.forward = lambda x: x.mean((2, 3), keepdim=True)  # which names nothing
    PixelLearner(net, "body", **SMALL)


def test_the_network_can_be_scripted_and_pickled_afterwards():
    learner = small_learner()
    net = learner.net.eval()
    with pytest.raises(AttributeError):
        torch.jit.script(net)
    learner.release()
    assert not any(module._forward_hooks for module in learner.modules())
    x = images(size=(32, 32))
    torch.testing.assert_close(torch.jit.script(net)(x), net(x))
    assert b"pixpro_d2" not in pickle.dumps(net)


def test_a_network_in_eval_mode_is_a_warning():
    """As the result of load_backbone, or a network after an evaluation in the loop."""
    learner = small_learner()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        learner(images())
        learner.eval()(images())
    learner.train().net.eval()
    with pytest.warns(UserWarning, match=r"^The network SmallNet is in eval mode, .*: call learner.train\(\) before"):
        learner(images())


class Adapter(nn.Conv2d):
    """Merge weights in eval mode and separate them in training, as adapters of low rank do."""

    merged = False

    def train(self, mode=True):
        self.merged = not mode
        return super().train(mode)


def test_the_modes_of_modules_are_restored_by_themselves():
    net = nn.Sequential(Adapter(3, 8, 3), nn.Sequential(Adapter(8, 8, 1), nn.BatchNorm2d(8)))
    net[1][1].eval()
    with eval_mode(net):
        assert net[0].merged and not net[1].training
    assert not net[0].merged and not net[1][0].merged
    assert [module.training for module in net.modules()] == [True, True, True, True, False]


class OneConvolution(PixProMethod):
    @staticmethod
    def build_projector(in_channels, hidden_channels, out_channels, norm):
        return nn.Conv2d(in_channels, out_channels, 1)


def test_a_method_brings_its_projector():
    learner = small_learner(method=OneConvolution("all"))
    assert [type(module) for module in learner.projector.modules() if not list(module.children())] == [nn.Conv2d]
    assert torch.isfinite(learner(images())[0])


def test_another_default_device_changes_no_draw():
    generator = torch.Generator()
    expected = numpy_rng(generator.manual_seed(0)).random()
    with torch.device("meta"):
        assert numpy_rng(generator.manual_seed(0)).random() == expected


def test_channels_last_is_seen_for_sides_that_are_no_multiples():
    class Last(nn.Conv2d):
        def forward(self, x):
            return super().forward(x).permute(0, 2, 3, 1)

    with pytest.raises(UsageError, match=r"shape \(2, 7, 10, 96\), whose channels seem to come last"):
        LayerFeatures(Last(3, 96, 32, 32, 16), [None], 3, (200, 300))
    LayerFeatures(nn.Conv2d(3, 7, 32, 32, 16), [None], 3, (200, 300))
