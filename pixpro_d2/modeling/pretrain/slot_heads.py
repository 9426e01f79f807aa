"""The networks of SlotCon: a projector of three layers, and a predictor on the slots that count."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...utils.errors import UsageError
from ..distributed import sum_over_processes
from .projector import NormName, norm_layer

BATCH_NORMS = {"BN": False, "SyncBN": True, "nnSyncBN": True, "naiveSyncBN": True, "naiveSyncBN_N": True}


class SlotProjector(nn.Sequential):
    """Project (N, C, H, W) to (N, out_channels, H, W) by three 1x1 convolutions, with norm and GELU between them."""

    def __init__(
        self, in_channels: int, hidden_channels: int = 4096, out_channels: int = 256, norm: NormName = "BN"
    ) -> None:
        super().__init__(
            nn.Conv2d(in_channels, hidden_channels, 1),
            norm_layer(norm, hidden_channels),
            nn.GELU(),
            nn.Conv2d(hidden_channels, hidden_channels, 1),
            norm_layer(norm, hidden_channels),
            nn.GELU(),
            nn.Conv2d(hidden_channels, out_channels, 1),
        )
        start_small(self)


class SlotPredictor(nn.Module):
    """Predict a slot of the target branch from a slot of the online branch, by three linear layers with GELU."""

    def __init__(self, channels: int, hidden_channels: int = 4096, norm: str = "BN") -> None:
        """
        Args:
            channels: channels of a slot, in and out.
            hidden_channels: channels between the layers.
            norm: "" or detectron2's name of a batch norm, which sees the slots that count only.
        """
        super().__init__()
        self.first = nn.Linear(channels, hidden_channels)
        self.first_norm = masked_norm(norm, hidden_channels)
        self.second = nn.Linear(hidden_channels, hidden_channels)
        self.second_norm = masked_norm(norm, hidden_channels)
        self.last = nn.Linear(hidden_channels, channels)
        start_small(self)

    def forward(self, slots: Tensor, counted: Tensor) -> Tensor:
        """Predict from ``slots`` (R, C), of which the rows ``counted`` (R,) bool count; (R, C)."""
        hidden = F.gelu(_normed(self.first_norm, self.first(slots), counted))
        hidden = F.gelu(_normed(self.second_norm, self.second(hidden), counted))
        return self.last(hidden)


def start_small(head: nn.Module) -> None:
    """Draw the weights of convolutions and linear layers with standard deviation 0.02, and set their biases to 0."""
    for module in head.modules():
        if isinstance(module, nn.Conv2d | nn.Linear) and module.bias is not None:
            nn.init.trunc_normal_(module.weight, std=0.02)
            nn.init.zeros_(module.bias)


class MaskedBatchNorm(nn.BatchNorm1d):
    """Normalise all rows by mean and variance of the rows that count.

    A batch norm of only these rows would have to wait for their number. With a single row that counts, the variance is
    0, so the result of this row is the bias.
    """

    running_mean: Tensor
    running_var: Tensor
    num_batches_tracked: Tensor

    def __init__(self, channels: int, synced: bool) -> None:
        """
        Args:
            channels: C.
            synced: whether the rows of all processes count; all processes must then call the norm together.
        """
        super().__init__(channels)
        self.synced = synced

    def forward(self, rows: Tensor, counted: Tensor) -> Tensor:  # type: ignore[override]
        """Normalise ``rows`` (R, C), of which ``counted`` (R,) bool count."""
        if not self.training:
            return super().forward(rows)
        rows = rows.float()
        weights = counted[:, None].float()
        count = self._total(weights.sum())
        divisor = count.clamp(min=1)
        mean = self._total((rows * weights).sum(dim=0)) / divisor
        centered = rows - mean
        variance = self._total((centered.square() * weights).sum(dim=0)) / divisor
        self._follow(mean.detach(), variance.detach() * count / (count - 1).clamp(min=1), count > 0)
        return centered * (variance + self.eps).rsqrt() * self.weight + self.bias

    def _total(self, value: Tensor) -> Tensor:
        return sum_over_processes(value) if self.synced else value

    @torch.no_grad()
    def _follow(self, mean: Tensor, variance: Tensor, any_counted: Tensor) -> None:
        """Move the running statistics as a batch norm does, unless no row counts."""
        self.num_batches_tracked.add_(any_counted)
        momentum = 1 / self.num_batches_tracked.clamp(min=1) if self.momentum is None else self.momentum
        self.running_mean.lerp_(torch.where(any_counted, mean, self.running_mean), momentum)
        self.running_var.lerp_(torch.where(any_counted, variance, self.running_var), momentum)


def masked_norm(norm: str, channels: int) -> nn.Module:
    """Build the norm ``norm`` of a slot predictor; the identity for "".

    Raises:
        UsageError: for another norm than batch norms.
    """
    if not norm:
        return nn.Identity()
    if norm not in BATCH_NORMS:
        raise UsageError(
            f"MODEL.PIXPRO.NORM is '{norm}', but the slot predictor of METHOD slotcon needs a batch norm: choose from "
            f"{', '.join(BATCH_NORMS)} or ''."
        )
    return MaskedBatchNorm(channels, BATCH_NORMS[norm])


def _normed(norm: nn.Module, rows: Tensor, counted: Tensor) -> Tensor:
    return norm(rows, counted) if isinstance(norm, MaskedBatchNorm) else norm(rows)
