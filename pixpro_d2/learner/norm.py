"""The batch norm of the learner's heads."""

import torch.nn.functional as F
from torch import nn


class BatchNorm(nn.BatchNorm2d):
    """Batch norm that takes its running statistics where a channel has a single value, which has no variance.

    So an instance layer that pools to one pixel works with a batch of one image.
    """

    def forward(self, x):
        if x.numel() > x.shape[1]:
            return super().forward(x)
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)


_NORMS = {"BN": BatchNorm, "SyncBN": nn.SyncBatchNorm, "GN": lambda channels: nn.GroupNorm(32, channels)}


def head_norm(norm):
    """Return the function of the channels that builds the norm called ``norm``; the name where it is detectron2's."""
    return _NORMS.get(norm, norm)
