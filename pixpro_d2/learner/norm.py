"""The batch norm of the learner's heads."""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

from ..modeling.pretrain.projector import NormName


class BatchNorm(nn.BatchNorm2d):
    """Normalise by the batch, or by the running statistics if a channel has a single value, which has no variance.

    An instance layer that pools to one pixel then works with a batch of one image.
    """

    def forward(self, x: Tensor) -> Tensor:
        if x.numel() > x.shape[1]:
            return super().forward(x)
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)


_NORMS: dict[str, Callable[[int], nn.Module]] = {
    "BN": BatchNorm,
    "SyncBN": nn.SyncBatchNorm,
    "GN": lambda channels: nn.GroupNorm(32, channels),
}


def head_norm(norm: NormName) -> NormName:
    """Return the function of the channels that builds the norm ``norm``; the name itself if detectron2 builds it."""
    return _NORMS.get(norm, norm) if isinstance(norm, str) else norm
