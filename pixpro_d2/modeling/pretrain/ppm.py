"""The pixel propagation module (PPM) of PixPro, paper section 3.2."""

import torch
from torch import nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from ...utils.errors import UsageError
from .chunks import image_chunks
from .projector import norm_layer
from .unit import unit


def propagate(x, values, gamma, normalize_values=True):
    """Replace each pixel by a sum over all pixels of its image, weighted by similarity (paper Eq. 3, 4).

    y_i = sum_j max(cos(x_i, x_j), 0)^gamma v_j. Follows the official code where it departs from the
    paper: the values are L2-normalised, and the sum is not divided by the weights.

    Args:
        x (Tensor): (N, C, H, W) features.
        values (Tensor): (N, D, H, W) transformed features g(x).
        gamma (float): sharpness, > 0.
        normalize_values (bool): L2-normalise the values; the paper's Eq. 3 does not.

    Returns:
        Tensor: (N, D, H, W) float32 whatever the autocast, not normalised.
    """
    with torch.autocast(x.device.type, enabled=False):
        features = unit(x).flatten(2)  # (N, C, L)
        values = unit(values) if normalize_values else values.float()
        return _Propagate.apply(features, values.flatten(2), gamma).view_as(values)


class _Propagate(Function):
    """(N, C, L) unit features and (N, D, L) values to the (N, D, L) sums.

    The (N, L, L) weights, by far the largest tensors at a fine level, are not kept for the backward pass but computed
    anew, for so many images at a time that they stay small.
    """

    @staticmethod
    def forward(ctx, features, values, gamma):
        ctx.save_for_backward(features, values)
        ctx.gamma = gamma
        sums = torch.empty_like(values)
        for part in image_chunks(len(features), features.shape[2] ** 2):
            similarity = _similarity(_cosines(features[part]), gamma)
            torch.bmm(values[part], _power(similarity, gamma), out=sums[part])
        return sums

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        with torch.autocast(grad.device.type, enabled=False):  # whatever is on where backward() is called or compiled
            return *_gradients(*ctx.saved_tensors, ctx.gamma, grad), None


def _gradients(features, values, gamma, grad):
    """Of ``features`` and ``values``, from ``grad``, that of the sums."""
    grad_features, grad_values = torch.empty_like(features), torch.empty_like(values)
    for part in image_chunks(len(features), features.shape[2] ** 2):
        f, v, g = features[part], values[part], grad[part]
        cosines = _cosines(f)
        inside = cosines >= 0 if gamma <= 1 else None  # elsewhere a larger gamma gives the slope 0 by itself
        similarity = _similarity(cosines, gamma)
        torch.bmm(g, _power(similarity, gamma), out=grad_values[part])
        by_cosine = v.transpose(1, 2) @ g  # of row j, column i: v_j . g_i; then times the slope / gamma
        if gamma != 1:
            by_cosine *= _power(similarity, gamma - 1)
        if inside is not None:
            by_cosine *= inside
        # The cosine of i and j is that of j and i. Two products move less memory than adding the matrix transposed.
        out = grad_features[part]
        torch.bmm(f, by_cosine, out=out)
        out.baddbmm_(f, by_cosine.transpose(1, 2), beta=gamma, alpha=gamma)
    return grad_features, grad_values


def _cosines(features):
    return features.transpose(1, 2) @ features


def _similarity(cosines, gamma):
    """max(cosine, 0) (N, L, L), in the memory of the cosines."""
    similarity = cosines.clamp_(min=0)
    return similarity.add_(1e-6) if gamma < 1 else similarity  # finite gradient at 0, as in the official code


def _power(x, exponent):
    return x if exponent == 1 else x**exponent


class PixelPropagation(nn.Module):
    """PPM with its value transform g; (N, C, H, W) in, (N, C, H, W) float32 out, not normalised."""

    def __init__(self, channels, num_layers=1, gamma=2.0, norm="BN", normalize_values=True):
        """
        Args:
            channels (int): C.
            num_layers (int): of the value transform: 0 is the identity, 1 a 1x1 convolution,
                2 convolution, norm, ReLU, convolution.
            gamma (float): sharpness of the similarity, > 0.
            norm (str): detectron2 norm name, used with two layers.
            normalize_values (bool): as in :func:`propagate`.
        """
        super().__init__()
        self.gamma = gamma
        self.normalize_values = normalize_values
        if num_layers == 0:
            layers = []
        elif num_layers == 1:
            layers = [nn.Conv2d(channels, channels, 1)]
        elif num_layers == 2:
            layers = [
                nn.Conv2d(channels, channels, 1),
                norm_layer(norm, channels),
                nn.ReLU(inplace=True),
                nn.Conv2d(channels, channels, 1),
            ]
        else:
            raise UsageError(f"The number of layers of PPM is {num_layers}; it must be 0, 1 or 2.")
        self.value_transform = nn.Sequential(*layers)

    def forward(self, x):
        return propagate(x, self.value_transform(x), self.gamma, self.normalize_values)
