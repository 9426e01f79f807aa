"""The instance branch: one vector per image, compared between the views."""

import torch.nn.functional as F
from torch import Tensor, nn

from ..distributed import gather_keys
from .losses import byol_loss, infonce_loss
from .projector import NormName, Projector


class InstanceBranch(nn.Module):
    """Apply a projector (and, for ``byol``, a predictor) to each pixel, then average over the feature map.

    The pooling follows projection and prediction, as in the official code, but adapts to any input
    size. The meta-architecture keeps the momentum copy of ``projector`` and passes it to :meth:`keys`.
    """

    def __init__(
        self,
        in_channels: int,
        hidden_channels: int,
        out_channels: int,
        loss: str,
        temperature: float,
        norm: NormName,
    ) -> None:
        """
        Args:
            in_channels, hidden_channels, out_channels: channels of the projector.
            loss: ``byol`` (official code) or ``infonce`` (SimCLR with a momentum branch, paper).
            temperature: tau of ``infonce``.
            norm: detectron2 norm name.
        """
        super().__init__()
        self.loss = loss
        self.temperature = temperature
        self.projector = Projector(in_channels, hidden_channels, out_channels, norm)
        self.predictor = (
            Projector(out_channels, hidden_channels, out_channels, norm) if loss == "byol" else nn.Identity()
        )

    @staticmethod
    def _pool(feature: Tensor) -> Tensor:
        return F.normalize(feature.float().mean(dim=(2, 3)), dim=1)

    def queries(self, feature: Tensor) -> Tensor:
        """Map the online feature (N, C, H, W) to L2-normalised vectors (N, out_channels)."""
        return self._pool(self.predictor(self.projector(feature)))

    def keys(self, target_projector: nn.Module, feature: Tensor) -> Tensor:
        """Map the target feature (N, C, H, W) to L2-normalised vectors (N, out_channels); call it without gradients."""
        return self._pool(target_projector(feature))

    def direction_loss(self, q: Tensor, k: Tensor) -> Tensor:
        """Return the loss of one direction, 0-d."""
        if self.loss == "byol":
            return byol_loss(q, k)
        keys, offset = gather_keys(k)
        return infonce_loss(q, keys, offset, self.temperature)
