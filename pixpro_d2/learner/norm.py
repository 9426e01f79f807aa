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


def head_norm(norm):
    """What detectron2's ``get_norm`` is given for the name ``norm``: ``BN`` is :class:`BatchNorm`."""
    return BatchNorm if norm == "BN" else norm
