"""Vectors of length 1."""

import torch
from torch.autograd import Function
from torch.autograd.function import once_differentiable

SMALLEST = 1e-12  # length that shorter vectors are divided by, as by torch.nn.functional.normalize


def unit(x):
    """L2-normalise ``x`` (N, C, ...) over C, in float32 whatever the autocast.

    It gives what ``torch.nn.functional.normalize`` gives, and its gradient (but for lengths between 0 and SMALLEST).
    That walks through the tensor twice as often on the way back, and keeps a float32 copy of ``x`` where here the
    result itself is kept, which must therefore not be changed in place.
    """
    return _Unit.apply(x.float())


class _Unit(Function):
    @staticmethod
    def forward(ctx, x):
        lengths = torch.linalg.vector_norm(x, dim=1, keepdim=True).clamp_(min=SMALLEST)
        result = x / lengths
        ctx.save_for_backward(result, lengths)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        result, lengths = ctx.saved_tensors
        along = (grad * result).sum(dim=1, keepdim=True)  # moving along itself changes no direction
        return torch.addcmul(grad, result, along, value=-1).div_(lengths)
