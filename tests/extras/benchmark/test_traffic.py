"""Arithmetic and traffic of operators, by hand."""

import pytest
import torch
import torch.nn.functional as F

from pixpro_d2.extras.benchmark.traffic import TrafficMode, count_work

A = torch.ones(2, 3)  # 24 bytes


def parts():
    return [torch.ones(2, 3), torch.ones(4)]  # 24 and 16 bytes


@pytest.mark.parametrize(
    "function, expected",
    [
        (lambda: A + A.clone(), 24 + 24 + 24 + 24 + 24),  # read, written; two read, one written
        (lambda: A.view(6)[2:4].t(), 0),
        (lambda: torch.empty(100), 0),
        (lambda: A.clone().mul_(2), 48 + 48),
        (lambda: torch.add(A, 1, out=torch.empty(2, 3)), 24 + 24),  # what is written to is not read
        (lambda: torch.ones(1).expand(1000) + torch.ones(1000), 4 + 4000 + (4 + 4000 + 4000)),  # ones are written
        (lambda: A > 0, 24 + 6),  # a bool is a byte
        (lambda: torch._foreach_add_(parts(), 1), 40 + 2 * 40),
        (lambda: torch._foreach_lerp_(parts(), parts(), 0.5), 80 + 3 * 40),  # two lists read, one written
    ],
    ids=["add", "view", "empty", "in place", "out", "expanded", "bool", "list", "two lists"],
)
def test_bytes(function, expected):
    with TrafficMode() as traffic:
        function()
    assert traffic.bytes == expected


class Convolution:
    """Forward and backward pass of a convolution of 5 x 5 pixels from 3 to 4 channels, 1 x 1."""

    def __init__(self):
        self.images = torch.ones(2, 3, 5, 5, requires_grad=True)
        self.weight = torch.ones(4, 3, 1, 1, requires_grad=True)
        self.prepared = 0

    def prepare(self):
        self.prepared += 1

    def step(self):
        F.conv2d(self.images, self.weight).backward(torch.ones(2, 4, 5, 5))


def test_flop_of_a_convolution():
    convolution = Convolution()
    work = count_work(convolution)
    # 2 images * 25 pixels * 4 channels, each of 3 products and 3 sums; as much for either gradient.
    assert work["flop"] == 3 * (2 * 25 * 4 * 3 * 2) and convolution.prepared == 1
    # Images and weight are read, the output is written; the gradients' operands are output, images, weight.
    images, weight, output = 4 * 150, 4 * 12, 4 * 200
    forward, backward = images + weight + output, output + 2 * (images + weight)
    assert work["bytes"] == forward + backward + output  # and the ones are written
