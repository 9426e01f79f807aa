"""Vectors of length 1."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

MIN_LENGTH = 1e-12  # shorter vectors are divided by this length, as by torch.nn.functional.normalize


def unit(x: Tensor) -> Tensor:
    """L2-normalise ``x`` (N, C, ...) over C, in float32, also under autocast.

    Result and gradient equal ``torch.nn.functional.normalize``, except the gradient of lengths between 0 and
    MIN_LENGTH. The backward pass reads and writes half as much memory as in ``normalize``. It keeps the result
    instead of a float32 copy of ``x``, so the result must not be changed in place.
    """
    return _Unit.apply(x.float())


class _Unit(Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        lengths = torch.linalg.vector_norm(x, dim=1, keepdim=True).clamp_(min=MIN_LENGTH)
        result = x / lengths
        ctx.save_for_backward(result, lengths)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        result, lengths = ctx.saved_tensors
        along = (grad * result).sum(dim=1, keepdim=True)  # a change along the vector does not change its direction
        return torch.addcmul(grad, result, along, value=-1).div_(lengths)
