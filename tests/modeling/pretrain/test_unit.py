"""Unit vectors and their gradient, against PyTorch's and by differences."""

import pytest
import torch
import torch.nn.functional as F

from pixpro_d2.modeling.pretrain.unit import _Unit, unit


def random(*shape, dtype=torch.float32, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def both(x, direction):
    """Result and gradient of (ours, PyTorch's)."""
    results = []
    for function in (unit, lambda x: F.normalize(x.float(), dim=1)):
        leaf = x.clone(memory_format=torch.preserve_format).requires_grad_()
        y = function(leaf)
        (y * direction).sum().backward()
        results.append((y.detach(), leaf.grad))
    return results


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_equals_pytorchs(dtype, memory_format):
    x = (3 * random(2, 5, 3, 4, dtype=dtype)).contiguous(memory_format=memory_format)
    (y, grad), (expected, expected_grad) = both(x, random(2, 5, 3, 4, seed=1))
    assert y.dtype == torch.float32 and torch.equal(y, expected) and y.stride() == x.stride()
    assert grad.dtype == dtype and grad.stride() == x.stride()
    torch.testing.assert_close(grad, expected_grad)


def test_vectors_without_pixels():
    (y, grad), (expected, expected_grad) = both(random(4, 3), random(4, 3, seed=1))
    assert torch.equal(y, expected)
    torch.testing.assert_close(grad, expected_grad)


def test_gradient_by_differences():
    x = random(2, 3, 2, 2, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(_Unit.apply, x)


def test_a_vector_of_zeros_stays_one():
    x = random(1, 3, 2, 2)
    x[0, :, 0, 0] = 0
    (y, grad), (expected, expected_grad) = both(x, random(1, 3, 2, 2, seed=1))
    assert torch.equal(y, expected) and not y[0, :, 0, 0].any()
    torch.testing.assert_close(grad, expected_grad)


def test_the_result_is_what_is_kept():
    """Neither the input nor a copy of it in float32."""
    kept = []
    x = random(2, 5, 3, 4, dtype=torch.bfloat16).requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        y = unit(x)
    assert sorted(t.numel() for t in kept) == [2 * 3 * 4, y.numel()]
    assert y.data_ptr() in {t.data_ptr() for t in kept}
