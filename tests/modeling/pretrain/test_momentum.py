import oracle
import pytest
import torch

from pixpro_d2.modeling.pretrain.momentum import momentum_at, update_target

SHAPES = [(), (1,), (7,), (3, 4), (2, 3, 1, 5), (0,)]


def random_parameters(dtype, seed):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator).to(dtype) for shape in SHAPES]


@pytest.mark.parametrize(
    "iteration, expected",
    [
        pytest.param(0, 0.990, id="T13-start"),
        pytest.param(500, 0.995, id="T13-middle"),
        pytest.param(1000, 1.000, id="T13-end"),
    ],
)
def test_momentum(iteration, expected):
    assert momentum_at(iteration, 1000) == pytest.approx(expected, abs=1e-9)


def test_momentum_of_slotcons_recipe_s15():
    """The start and the middle of 320 updates."""
    assert [momentum_at(k, 320) for k in (0, 160)] == pytest.approx([0.99, 0.995], abs=1e-9)


@pytest.mark.parametrize("base", [0.9, 0.99, 0.9934])
def test_momentum_against_slow(base):
    previous = 0.0
    for iteration in range(38):
        value = momentum_at(iteration, 37, base)
        assert isinstance(value, float)
        assert value == pytest.approx(oracle.momentum_slow(iteration, 37, base), abs=1e-12)
        assert value >= previous
        previous = value


@pytest.mark.parametrize("momentum", [0.0, 0.5, 0.99, 0.99999, 1.0])
@pytest.mark.parametrize(
    "dtype, tolerance",
    [(torch.float64, 1e-12), (torch.float32, 1e-6), (torch.bfloat16, 2**-6)],
    ids=["float64", "float32", "bfloat16"],
)
def test_update_against_slow(dtype, tolerance, momentum):
    online, target = random_parameters(dtype, seed=0), random_parameters(dtype, seed=1)
    expected = oracle.ema_slow(online, target, momentum)
    kept = [parameter.clone() for parameter in online]
    storages = [parameter.data_ptr() for parameter in target]
    assert update_target(online, target, momentum) is None
    for new, slow, before, after in zip(target, expected, kept, online, strict=True):
        assert new.dtype == dtype
        torch.testing.assert_close(new, slow, atol=tolerance, rtol=tolerance)
        assert torch.equal(before, after)
    assert [parameter.data_ptr() for parameter in target] == storages


def test_update_of_mixed_dtypes():
    online, target = [], []
    for seed, dtype in enumerate((torch.float32, torch.bfloat16, torch.float32)):
        online += random_parameters(dtype, seed)
        target += random_parameters(dtype, seed + 10)
    expected = oracle.ema_slow(online, target, 0.99)
    update_target(online, target, 0.99)
    for new, slow in zip(target, expected, strict=True):
        tolerance = 2**-6 if new.dtype == torch.bfloat16 else 1e-6
        torch.testing.assert_close(new, slow, atol=tolerance, rtol=tolerance)


def test_update_of_module_parameters_needs_no_gradient_mode():
    online, target = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    for parameter in target.parameters():
        parameter.requires_grad_(False)
    expected = oracle.ema_slow(list(online.parameters()), list(target.parameters()), 0.9)
    update_target(list(online.parameters()), list(target.parameters()), 0.9)
    for new, slow in zip(target.parameters(), expected, strict=True):
        torch.testing.assert_close(new, slow, atol=1e-6, rtol=0)
        assert new.grad_fn is None and not new.requires_grad


def test_repeated_updates_against_slow():
    online, target = random_parameters(torch.float32, seed=2), random_parameters(torch.float32, seed=3)
    slow = [parameter.double() for parameter in target]
    for iteration in range(20):
        momentum = momentum_at(iteration, 20)
        update_target(online, target, momentum)
        slow = oracle.ema_slow(online, slow, oracle.momentum_slow(iteration, 20))
    for new, expected in zip(target, slow, strict=True):
        torch.testing.assert_close(new.double(), expected, atol=1e-5, rtol=0)
