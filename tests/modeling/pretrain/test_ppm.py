import oracle
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from pixpro_d2.modeling.pretrain.losses import pixpro_loss
from pixpro_d2.modeling.pretrain.ppm import PixelPropagation, propagate


def sines():
    return torch.arange(16.0).sin().view(1, 4, 2, 2)


def convolutions(module):
    return [m for m in module.modules() if isinstance(m, nn.Conv2d)]


def random_features(shape, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_one_layer_T10():  # noqa: N802
    ppm = PixelPropagation(4, num_layers=1, gamma=2.0)
    (conv,) = convolutions(ppm.value_transform)
    with torch.no_grad():
        conv.weight.copy_(torch.arange(16.0).cos().view(4, 4, 1, 1))
        conv.bias.copy_(torch.tensor([0.1, -0.2, 0.3, -0.4]))
    out = ppm(sines())
    assert out.shape == (1, 4, 2, 2)
    assert out.sum().item() == pytest.approx(-2.184115, abs=1e-5)
    normed = F.normalize(out, dim=1)
    assert normed.sum().item() == pytest.approx(-1.591000, abs=1e-5)
    # Identical crops: every pixel matches itself alone.
    _, k = oracle.features(1, 4, 2, 2)
    loss = pixpro_loss(normed, k, torch.eye(4, dtype=torch.bool)[None])
    assert loss.item() == pytest.approx(-0.982253, abs=1e-5)


@pytest.mark.parametrize(
    "gamma, total, normed_total",
    [
        pytest.param(1.0, 2.798648, 1.799371, id="T11-gamma-1"),
        pytest.param(2.0, 2.168127, 1.636257, id="T11-gamma-2"),
        pytest.param(0.5, 3.280097, 1.893603, id="T11-gamma-.5"),
    ],
)
def test_identity_transform(gamma, total, normed_total):
    x = sines()
    out = PixelPropagation(4, num_layers=0, gamma=gamma)(x)
    assert torch.equal(out, propagate(x, x, gamma))
    assert out.sum().item() == pytest.approx(total, abs=1e-5)
    assert F.normalize(out, dim=1).sum().item() == pytest.approx(normed_total, abs=1e-5)


def test_pixels_of_one_channel_T11b():  # noqa: N802
    out = propagate(sines(), sines(), 2.0)
    expected = torch.tensor([0.135986, 0.813393, 0.856576, 0.296242])
    torch.testing.assert_close(out[0, 0].flatten(), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0, 4.0])
def test_values_against_slow(gamma):
    x, values = random_features((2, 5, 3, 4), seed=0), random_features((2, 5, 3, 4), seed=1)
    out = propagate(x, values, gamma)
    assert out.shape == x.shape
    torch.testing.assert_close(out.double(), oracle.ppm_slow(x, values, gamma), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("gamma", [0.5, 1.0, 1.5, 2.0, 3.0])
def test_gradients_against_slow(gamma):
    weight = random_features((2, 5, 3, 2), seed=2)
    gradients = []
    for function in (propagate, oracle.ppm_slow):
        x = random_features((2, 5, 3, 2), seed=3).requires_grad_()
        values = random_features((2, 5, 3, 2), seed=4).requires_grad_()
        (function(x, values, gamma) * weight).sum().backward()
        gradients.append((x.grad, values.grad))
    for fast, slow in zip(*gradients, strict=True):
        assert torch.isfinite(fast).all()
        torch.testing.assert_close(fast, slow, atol=1e-4, rtol=1e-4)


def test_gradient_against_finite_differences():
    x, step = random_features((1, 3, 2, 2), seed=5), 1e-5
    fast = x.clone().requires_grad_()
    # The square, because a plain sum hides an exchange of pixels.
    propagate(fast, fast, 2.0).square().sum().backward()
    for index in range(x.numel()):
        ends = []
        for sign in (1, -1):
            moved = x.double().flatten()
            moved[index] += sign * step
            moved = moved.view(x.shape)
            ends.append(oracle.ppm_slow(moved, moved, 2.0).square().sum().item())
        slope = (ends[0] - ends[1]) / (2 * step)
        assert fast.grad.flatten()[index].item() == pytest.approx(slope, abs=1e-4, rel=1e-4)


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_gradients_stay_in_float32_where_backward_is_autocast(gamma):
    gradients = []
    for enabled in (False, True):
        x = random_features((2, 5, 3, 2), seed=6).requires_grad_()
        out = propagate(x, 2 * x, gamma).square().sum()
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            out.backward()
        gradients.append(x.grad)
    assert torch.equal(*gradients)


def test_zero_features_are_finite():
    # gamma below 1 has an infinite slope where the affinity is 0.
    x = torch.zeros(1, 3, 2, 2, requires_grad=True)
    out = propagate(x, x, 0.5)
    out.sum().backward()
    assert torch.equal(out, torch.zeros_like(out))
    assert torch.isfinite(x.grad).all()


def test_zero_layers_have_no_parameters():
    assert list(PixelPropagation(8, num_layers=0).parameters()) == []


def test_one_layer_is_a_convolution_with_bias():
    ppm = PixelPropagation(6)
    (conv,) = convolutions(ppm)
    assert conv.weight.shape == (6, 6, 1, 1)
    assert conv.bias is not None
    assert sorted(p.shape for p in ppm.parameters()) == [(6,), (6, 6, 1, 1)]
    x = random_features((2, 6, 3, 3), seed=6)
    expected = oracle.ppm_slow(x, F.conv2d(x, conv.weight, conv.bias), 2.0)
    torch.testing.assert_close(ppm(x).double(), expected, atol=1e-5, rtol=1e-5)


def test_two_layers():
    ppm = PixelPropagation(6, num_layers=2, gamma=2.0, norm="BN").train()
    first, second = convolutions(ppm)
    (norm,) = (m for m in ppm.modules() if isinstance(m, nn.BatchNorm2d))
    assert first.weight.shape == second.weight.shape == (6, 6, 1, 1)
    x = random_features((2, 6, 3, 3), seed=7)
    hidden = F.conv2d(x, first.weight, first.bias)
    hidden = F.batch_norm(hidden, None, None, norm.weight, norm.bias, training=True, eps=norm.eps)
    values = F.conv2d(hidden.relu(), second.weight, second.bias)
    torch.testing.assert_close(ppm(x).double(), oracle.ppm_slow(x, values, 2.0), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("num_layers", [-1, 3])
def test_other_numbers_of_layers_are_refused(num_layers):
    with pytest.raises(ValueError):
        PixelPropagation(4, num_layers=num_layers)


@pytest.mark.parametrize("num_layers", [1, 2])
def test_all_parameters_get_a_gradient(num_layers):
    ppm = PixelPropagation(6, num_layers=num_layers)
    ppm(random_features((2, 6, 3, 3), seed=8)).square().sum().backward()
    for name, parameter in ppm.named_parameters():
        assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name


def test_autocast_leaves_the_similarities_in_float32():
    x = torch.sin(torch.arange(48.0)).view(1, 4, 3, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = propagate(x, x, 2.0)
    assert mixed.dtype == torch.float32 and torch.equal(mixed, propagate(x, x, 2.0))
