"""Feature maps from inside a network: the right ones, without a trace, and what is said about wrong ones."""

import copy

import pytest
import torch
from learner_helpers import SmallNet, images, small_net
from torch import nn
from torch.utils.checkpoint import checkpoint

from pixpro_d2.learner.features import LayerFeatures
from pixpro_d2.utils.errors import UsageError

SIZE = (32, 32)


def features_of(net, layers, channels=3, instance_layer=None, size=SIZE):
    return LayerFeatures(net, layers, channels, size, instance_layer)


def test_layers_by_path_position_and_as_a_whole():
    net = small_net()
    x = images(size=SIZE)
    features = features_of(net, ["stem.0", "body", 0])
    net.eval()
    out = features(x)
    assert features.in_features == list(out) == ["stem_0", "body", "stem"]
    torch.testing.assert_close(out["stem_0"], net.stem[0](x))
    torch.testing.assert_close(out["stem"], net.stem(x))
    torch.testing.assert_close(out["body"], net.body(net.stem(x)))
    assert {name: shape.channels for name, shape in features.output_shape().items()} == dict(stem_0=8, body=12, stem=8)
    encoder = nn.Sequential(net.stem, net.body)
    torch.testing.assert_close(features_of(encoder, [None])(x)["output"], encoder(x))
    torch.testing.assert_close(features_of(encoder, [-1])(x)["1"], encoder(x))
    assert list(features_of(net, [-4])(x)) == ["body"]


@pytest.mark.parametrize("layer, name, shape", [("pool", "pool", 12), ("fc", "fc", 5), ("body", "body", 12)])
def test_the_instance_layer_is_the_last(layer, name, shape):
    features = features_of(small_net(), ["body", "stem"], instance_layer=layer)
    out = features(images(size=SIZE))
    assert features.in_features == ["body", "stem"] and list(out)[-1] == list(features.output_shape())[-1] == name
    assert len(out) == (2 if layer == "body" else 3) and out[name].dim() == 4
    assert features.output_shape()[name].channels == shape


def test_the_network_notices_nothing():
    net = small_net()
    net.body.eval()
    before = copy.deepcopy(net.state_dict())
    modes = [module.training for module in net.modules()]
    random_state = torch.get_rng_state()
    features_of(net, ["stem", "body"])
    assert [module.training for module in net.modules()] == modes
    assert list(net.state_dict()) == list(before)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert torch.equal(torch.get_rng_state(), random_state)


def test_copies_read_their_own_network():
    features = features_of(small_net(), ["body"]).eval()
    twin = copy.deepcopy(features)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.zero_()
    x = images(size=SIZE)
    assert twin(x)["body"].abs().max() == 0
    torch.testing.assert_close(features(x)["body"], features.net.body(features.net.stem(x)))


def test_nothing_is_kept_when_the_network_runs_alone():
    net = small_net()
    features_of(net, ["body"])
    net(images(size=SIZE)).sum().backward()
    copy.deepcopy(net)  # fails if a tensor with a graph hangs on it


class Odd(nn.Module):
    """Gives what it is told to, from a layer ``odd`` behind a convolution."""

    def __init__(self, make):
        super().__init__()
        self.conv = nn.Conv2d(3, 6, 3, 4, 1)
        self.odd = nn.Identity()
        self.odd.forward = make

    def forward(self, x):
        return self.odd(self.conv(x))


@pytest.mark.parametrize(
    "net, layer, message",
    [
        (SmallNet(), "layer4", "no layer 'layer4'.*children stem, body, pool, fc, idle"),
        (SmallNet(), "", "no layer ''"),
        (SmallNet(), 5, "no layer 5: it has 5 children"),
        (SmallNet(), -6, "no layer -6"),
        (SmallNet(), "idle", "Layer 'idle' was not run on"),
        (
            SmallNet(),
            "pool",
            "Layer 'pool' gives a feature map of 1 x 1 pixel for views of 32 x 32.*before the pooling",
        ),
        (SmallNet(), "fc", "Layer 'fc' gives a feature map of 1 x 1"),
        (SmallNet(), None, "The network itself gives a feature map of 1 x 1"),
        (Odd(lambda x: {"out": x}), "odd", "Layer 'odd' gives a dict, not a tensor"),
        (Odd(lambda x: (x, x)), "odd", "gives a tuple"),
        (Odd(lambda x: x.flatten(2).transpose(1, 2)), "odd", r"shape \(2, 64, 6\) for two images.*\(N, C, H, W\)"),
        (Odd(lambda x: x.permute(0, 2, 3, 1)), "odd", r"shape \(2, 8, 8, 6\), whose channels seem to come last"),
        (Odd(lambda x: x.flatten(0, 1)[:, None]), "odd", r"shape \(12, 1, 8, 8\) for two images"),
    ],
)
def test_layers_that_do_not_fit(net, layer, message):
    with pytest.raises(UsageError, match=message):
        features_of(net, [layer])
    assert not any(module._forward_hooks for module in net.modules())


@pytest.mark.parametrize(
    "make, message",
    [
        (
            lambda x: x.flatten(2).transpose(1, 2),
            r"\(2, 64, 6\) for two images, but the instance loss .* give patch_size",
        ),
        (lambda x: x.permute(0, 2, 3, 1), r"\(2, 8, 8, 6\), whose channels seem to come last, but the instance loss"),
    ],
)
def test_instance_layers_that_do_not_fit(make, message):
    with pytest.raises(UsageError, match=f"^Layer 'odd' gives a tensor of shape {message}"):
        features_of(Odd(make), ["conv"], instance_layer="odd")


class Residual(nn.Sequential):
    def forward(self, x):
        out = self[0](x)
        out += x
        return out


@pytest.mark.parametrize(
    "net, changed, behind",
    [
        (nn.Sequential(nn.Conv2d(3, 8, 3, 4, 1), nn.BatchNorm2d(8), nn.ReLU(inplace=True)), "1", "2"),
        (nn.Sequential(Residual(nn.Conv2d(3, 3, 3, 1, 1))), "0.0", "0"),
    ],
)
def test_outputs_that_change_in_place(net, changed, behind):
    """The feature would be the activation or the sum, under the name of the layer before."""
    with pytest.raises(UsageError, match=f"^Layer '{changed}' gives an output that the network changes in place .*: "):
        features_of(net, [behind, changed])
    features = features_of(net, [behind])
    x = images(size=SIZE)
    torch.testing.assert_close(next(iter(features(x).values())), net(x))
    with torch.inference_mode():  # where nothing counts the changes
        features_of(net, [behind])


class Checkpointed(nn.Sequential):
    """Two convolutions, the second in an activation checkpoint."""

    def __init__(self, use_reentrant):
        super().__init__(nn.Conv2d(3, 6, 3, 4, 1), nn.Conv2d(6, 6, 3, 1, 1))
        self.use_reentrant = use_reentrant

    def forward(self, x):
        return checkpoint(self[1], self[0](x), use_reentrant=self.use_reentrant)


class Stopped(nn.Module):
    """A frozen convolution without gradient, then one that learns."""

    def __init__(self):
        super().__init__()
        self.stem, self.body = nn.Conv2d(3, 6, 3, 4, 1).requires_grad_(False), nn.Conv2d(6, 6, 3, 1, 1)

    def forward(self, x):
        with torch.no_grad():
            x = self.stem(x)
        return self.body(x)


def test_a_layer_in_a_reentrant_checkpoint_is_refused():
    """Its output has no graph; a frozen layer's has none either, and learns nothing on purpose."""
    x = images(size=SIZE)
    net = Checkpointed(use_reentrant=True)
    for layers in (["1"], ["0", "1"]):
        with pytest.raises(UsageError, match="^Layer '1' runs without gradient, .*: give use_reentrant=False to torch"):
            features_of(net, layers)(x)
    features = features_of(net, ["0"])
    features(x)["0"].sum().backward()
    assert net[0].weight.grad.any()
    net[0].requires_grad_(False)
    assert not features(x)["0"].requires_grad
    body = Stopped()
    features_of(body, ["stem", "body"])(x)["body"].sum().backward()
    assert body.body.weight.grad.any()
    features_of(Checkpointed(use_reentrant=False), ["1"])(x)["1"].sum().backward()
    features_of(net.requires_grad_(False), ["1"])(x)


def test_names_must_differ():
    net = nn.Sequential()
    net.add_module("a", nn.Sequential(nn.Conv2d(3, 4, 3)))
    net.add_module("a_0", nn.Conv2d(4, 4, 3))
    for layers in (["a", "a"], ["a.0", "a_0"]):
        with pytest.raises(UsageError, match="have a name twice"):
            features_of(net, layers)


def test_a_map_that_is_too_small_only_for_the_views():
    net = small_net()
    assert features_of(net, ["body"], size=(4, 8)).output_shape()["body"].channels == 12  # 1 x 2 pixels
    with pytest.raises(UsageError, match="1 x 1 pixel for views of 4 x 4"):
        features_of(net, ["body"], size=(4, 4))


def test_non_square_maps_are_not_taken_for_channels_last():
    net = nn.Sequential(nn.Conv2d(3, 8, 3, 4, 1))
    for size in [(32, 64), (64, 32), (32, 32)]:
        assert features_of(net, [0], size=size).output_shape()["0"].channels == 8


def test_lazy_modules():
    net = nn.Sequential(nn.LazyConv2d(8, 3, 2), nn.LazyBatchNorm2d())
    assert features_of(net, [-1])(images(size=SIZE))["1"].shape == (4, 8, 15, 15)
