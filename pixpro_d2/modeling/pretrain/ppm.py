"""The pixel propagation module (PPM) of PixPro, paper section 3.2."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from ...utils.errors import UsageError
from .chunks import image_chunks
from .projector import NormName, norm_layer
from .unit import unit


def propagate(x: Tensor, values: Tensor, gamma: float, normalize_values: bool = True) -> Tensor:
    """Replace each pixel by a sum over all pixels of its image, weighted by similarity (paper Eq. 3, 4).

    y_i = sum_j max(cos(x_i, x_j), 0)^gamma v_j. Paper and official code differ in two points, and this function follows
    the official code: the values are L2-normalised, and the sum is not divided by the weights.

    Args:
        x: (N, C, H, W) features.
        values: (N, D, H, W) transformed features g(x).
        gamma: sharpness, > 0.
        normalize_values: L2-normalise the values; the paper's Eq. 3 does not.

    Returns:
        (N, D, H, W) float32, also under autocast, not normalised.
    """
    with torch.autocast(x.device.type, enabled=False):
        features = unit(x).flatten(2)  # (N, C, L)
        values = unit(values) if normalize_values else values.float()
        return _Propagate.apply(features, values.flatten(2), gamma).view_as(values)


class _Propagate(Function):
    """Map (N, C, L) unit features and (N, D, L) values to the (N, D, L) sums.

    The (N, L, L) weights are by far the largest tensors at a fine level. They are not kept for the backward pass but
    computed again, for a few images at a time.
    """

    @staticmethod
    def forward(ctx: Any, features: Tensor, values: Tensor, gamma: float) -> Tensor:
        ctx.save_for_backward(features, values)
        ctx.gamma = gamma
        sums = torch.empty_like(values)
        for part in image_chunks(len(features), features.shape[2] ** 2):
            similarity = _similarity(_cosines(features[part]), gamma)
            torch.bmm(values[part], _power(similarity, gamma), out=sums[part])
        return sums

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        with torch.autocast(grad.device.type, enabled=False):  # backward() may be called or compiled under autocast
            features, values = ctx.saved_tensors
            return *_gradients(features, values, ctx.gamma, grad), None


def _gradients(features: Tensor, values: Tensor, gamma: float, grad: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the gradients of ``features`` and ``values`` from the gradient ``grad`` of the sums."""
    grad_features, grad_values = torch.empty_like(features), torch.empty_like(values)
    for part in image_chunks(len(features), features.shape[2] ** 2):
        f, v, g = features[part], values[part], grad[part]
        cosines = _cosines(f)
        inside = cosines >= 0 if gamma <= 1 else None  # a gamma above 1 gives the slope 0 outside by itself
        similarity = _similarity(cosines, gamma)
        torch.bmm(g, _power(similarity, gamma), out=grad_values[part])
        by_cosine = v.transpose(1, 2) @ g  # of row j, column i: v_j . g_i; then times the slope / gamma
        if gamma != 1:
            by_cosine *= _power(similarity, gamma - 1)
        if inside is not None:
            by_cosine *= inside
        # The cosine is symmetric in i and j. Two products move less memory than adding the transposed matrix.
        out = grad_features[part]
        torch.bmm(f, by_cosine, out=out)
        out.baddbmm_(f, by_cosine.transpose(1, 2), beta=gamma, alpha=gamma)
    return grad_features, grad_values


def _cosines(features: Tensor) -> Tensor:
    return features.transpose(1, 2) @ features


def _similarity(cosines: Tensor, gamma: float) -> Tensor:
    """Return max(cosine, 0) (N, L, L), in the memory of the cosines."""
    similarity = cosines.clamp_(min=0)
    return similarity.add_(1e-6) if gamma < 1 else similarity  # finite gradient at 0, as in the official code


def _power(x: Tensor, exponent: float) -> Tensor:
    return x if exponent == 1 else x**exponent


class PixelPropagation(nn.Module):
    """Propagate pixels (PPM) with a value transform g; (N, C, H, W) in, (N, C, H, W) float32 out, not normalised."""

    def __init__(
        self,
        channels: int,
        num_layers: int = 1,
        gamma: float = 2.0,
        norm: NormName = "BN",
        normalize_values: bool = True,
    ) -> None:
        """
        Args:
            channels: C.
            num_layers: layers of the value transform: 0 is the identity, 1 a 1x1 convolution,
                2 convolution, norm, ReLU, convolution.
            gamma: sharpness of the similarity, > 0.
            norm: detectron2 norm name, used with two layers.
            normalize_values: as in :func:`propagate`.
        """
        super().__init__()
        self.gamma = gamma
        self.normalize_values = normalize_values
        layers: list[nn.Module]
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

    def forward(self, x: Tensor) -> Tensor:
        return propagate(x, self.value_transform(x), self.gamma, self.normalize_values)
