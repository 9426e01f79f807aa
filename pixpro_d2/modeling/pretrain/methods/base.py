"""Base class and inputs of the pixel-level pretext tasks."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from ..projector import NormName, Projector

if TYPE_CHECKING:
    from detectron2.config import CfgNode


@dataclass(frozen=True)
class LevelView:
    """Hold one view of N images at one feature level; "unit" means L2-normalised over C.

    Attributes:
        queries: (N, C, H, W) unit, float32, from the online branch, with a graph.
        keys: (N, C, H, W) unit, float32, from the target branch, without a graph.
        features, target_features: (N, D, H, W), inputs of the projectors of online and target branch.
        projection, target_projection: (N, C, H, W), results of the projectors, of any length.
        overlap: a :class:`..view_overlap.ViewOverlap`, for a method with ``needs_overlap``, otherwise None.
    """

    queries: Tensor
    keys: Tensor
    features: Tensor
    target_features: Tensor
    projection: Any = None
    target_projection: Any = None
    overlap: Any = None


class PixelMethod(nn.Module):
    """Compute a loss between two views; subclasses define :meth:`from_config` and :meth:`direction`.

    One instance serves all feature levels. Its modules and buffers are trained and saved with the model. A method
    whose loss is not the sum of two directions defines :meth:`forward` instead of :meth:`direction`.
    """

    needs_overlap = False  # whether the views must know which part of them the other view shows too

    @classmethod
    def from_config(cls, cfg: "CfgNode") -> "PixelMethod":
        """Build the method from a detectron2 config."""
        raise NotImplementedError

    def momentum_pairs(self) -> list[tuple[nn.Module, nn.Module]]:
        """Return further (online, target) modules of the method; none by default."""
        return []

    @staticmethod
    def build_projector(in_channels: int, hidden_channels: int, out_channels: int, norm: NormName) -> nn.Module:
        """Build the projector of a level, (N, in_channels, H, W) to (N, out_channels, H, W): PixPro's by default."""
        return Projector(in_channels, hidden_channels, out_channels, norm)

    def monitors(self, level: str, views: tuple[LevelView, LevelView]) -> dict[str, Tensor]:
        """Return 0-d scalars to record about a level by name, none by default; called in training now and then."""
        return {}

    def direction(self, level: str, query: LevelView, key: LevelView, positives: Tensor) -> Tensor:
        """Compute the loss of one direction.

        Args:
            level: name of the feature level.
            query, key: the view of the queries, and the other view.
            positives: (N, Lq, Lk) bool, pairs by geometry.

        Returns:
            0-d, float32.
        """
        raise NotImplementedError

    def forward(self, level: str, views: tuple[LevelView, LevelView], positives: tuple[Tensor, Tensor]) -> Tensor:
        """Sum the losses of both directions, 0-d.

        Args:
            level: name of the feature level.
            views: first and second view.
            positives: masks from the first view to the second, and back.
        """
        first, second = views
        there, back = positives
        return self.direction(level, first, second, there) + self.direction(level, second, first, back)
