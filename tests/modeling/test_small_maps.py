"""Small maps are convolved as a product, with the numbers of PyTorch's convolution."""

import copy

import pytest
import torch
import torch.nn.functional as F
from detectron2.layers import Conv2d, get_norm
from torch import nn
from torch.profiler import profile

from pixpro_d2.modeling.small_maps import convolve, multiply_small_maps

CASES = {  # size, kernel, stride, padding -> whether the output is small
    "2 x 2": (2, (3, 3), (1, 1), (1, 1), True),
    "3 x 3": (3, (3, 3), (1, 1), (1, 1), False),
    "4 x 4 to 2 x 2": (4, (3, 3), (2, 2), (1, 1), True),
    "4 x 4 to 2 x 2, one by one": (4, (1, 1), (2, 2), (0, 0), True),
    "one pixel": (1, (3, 3), (1, 1), (1, 1), True),
    "unequal sides": (4, (3, 1), (2, 3), (1, 0), True),
}


def operations(call):
    with profile() as found:
        call()
    return {event.name for event in found.events()}


@pytest.mark.parametrize("size, kernel, stride, padding, small", CASES.values(), ids=CASES)
def test_values_and_gradients_are_those_of_a_convolution(size, kernel, stride, padding, small):
    torch.manual_seed(0)
    x = torch.randn(3, 5, size, size, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(7, 5, *kernel, dtype=torch.float64, requires_grad=True)
    expected = F.conv2d(x, weight, None, stride, padding)
    found = convolve(x, weight, stride, padding)
    torch.testing.assert_close(found, expected)
    slope = torch.randn_like(expected)
    gradients = torch.autograd.grad(found, (x, weight), slope)
    torch.testing.assert_close(gradients, torch.autograd.grad(expected, (x, weight), slope))
    names = operations(lambda: convolve(x, weight, stride, padding))
    assert ("aten::mm" in names, "aten::conv2d" in names) == (small, not small)
    with torch.no_grad():
        assert "aten::mm" not in operations(lambda: convolve(x, weight, stride, padding))


def test_norm_and_activation_stay_and_a_copy_has_its_own_weights():
    torch.manual_seed(0)
    block = nn.Sequential(
        Conv2d(4, 8, 3, stride=2, padding=1, bias=False, norm=get_norm("BN", 8), activation=F.relu),
        Conv2d(8, 8, 3, padding=1, bias=False),
    )
    x = torch.randn(2, 4, 4, 4)
    expected = block(x)
    multiply_small_maps(block)
    torch.testing.assert_close(block(x), expected)
    other = copy.deepcopy(block)
    other[1].weight.data.zero_()
    torch.testing.assert_close(block(x), expected)
    assert not other(x).any()


@pytest.mark.parametrize(
    "options", [{"groups": 2}, {"dilation": 2, "padding": 2}, {"bias": True}, {"padding": "same"}], ids=str
)
def test_other_convolutions_are_left_alone(options):
    convolution = Conv2d(4, 4, 3, **{"bias": False, "padding": 1, **options})
    multiply_small_maps(convolution)
    assert "aten::conv2d" in operations(lambda: convolution(torch.randn(2, 4, 2, 2)))
