"""The batch norm of the learner's heads."""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from ..modeling.pretrain.projector import NormName
from ..utils.errors import UsageError


class BatchNorm(nn.BatchNorm2d):
    """Normalise by the batch, or by the running statistics if a channel has a single value, which has no variance.

    An instance layer that pools to one pixel then works with a batch of one image.
    """

    def forward(self, x: Tensor) -> Tensor:
        if x.numel() > x.shape[1]:
            return super().forward(x)
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)


def _group_norm(channels: int) -> nn.GroupNorm:
    if channels % 32:
        raise UsageError(
            f"norm GN has 32 groups, and a layer of the heads has {channels} channels: choose multiples of 32 for "
            "hidden_dim and out_dim."
        )
    return nn.GroupNorm(32, channels)


_NORMS: dict[str, Callable[[int], nn.Module]] = {
    "BN": BatchNorm,
    "SyncBN": nn.SyncBatchNorm,
    "GN": _group_norm,
}


def head_norm(norm: NormName) -> NormName:
    """Return the function of the channels that builds the norm ``norm``; the name itself if detectron2 builds it."""
    return _NORMS.get(norm, norm) if isinstance(norm, str) else norm
