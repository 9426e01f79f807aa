"""The instance branch: one vector per image, compared between the views."""

import torch.nn.functional as F
from torch import nn

from ..distributed import gather_keys
from .losses import byol_loss, infonce_loss
from .projector import Projector


class InstanceBranch(nn.Module):
    """Projector (and, for ``byol``, predictor) per pixel, then the mean over the feature map.

    The pooling follows projection and prediction, as in the official code, but adapts to any input
    size. The momentum copy of ``projector`` is kept by the meta-architecture and passed to :meth:`keys`.
    """

    def __init__(self, in_channels, hidden_channels, out_channels, loss, temperature, norm):
        """
        Args:
            in_channels, hidden_channels, out_channels (int): of the projector.
            loss (str): ``byol`` (official code) or ``infonce`` (SimCLR with a momentum branch, paper).
            temperature (float): tau of ``infonce``.
            norm (str): detectron2 norm name.
        """
        super().__init__()
        self.loss = loss
        self.temperature = temperature
        self.projector = Projector(in_channels, hidden_channels, out_channels, norm)
        self.predictor = (
            Projector(out_channels, hidden_channels, out_channels, norm) if loss == "byol" else nn.Identity()
        )

    @staticmethod
    def _pool(feature):
        return F.normalize(feature.float().mean(dim=(2, 3)), dim=1)

    def queries(self, feature):
        """Online feature (N, C, H, W) to L2-normalised (N, out_channels)."""
        return self._pool(self.predictor(self.projector(feature)))

    def keys(self, target_projector, feature):
        """Target feature (N, C, H, W) to L2-normalised (N, out_channels); call it without gradients."""
        return self._pool(target_projector(feature))

    def direction_loss(self, q, k):
        """Loss of one direction, 0-d."""
        if self.loss == "byol":
            return byol_loss(q, k)
        keys, offset = gather_keys(k)
        return infonce_loss(q, keys, offset, self.temperature)
