"""What all pixel-level pretext tasks share."""

from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True)
class LevelView:
    """One view of N images at one feature level; L2-normalised over C where it says unit.

    Attributes:
        queries: (N, C, H, W) unit, float32, from the online branch, with a graph.
        keys: (N, C, H, W) unit, float32, from the target branch, without.
        features, target_features: (N, D, H, W) that projectors of online and target branch were given.
    """

    queries: Tensor
    keys: Tensor
    features: Tensor
    target_features: Tensor


class PixelMethod(nn.Module):
    """A loss between two views; subclasses define :meth:`direction`, and what they need of their own.

    An instance serves all feature levels. Modules and buffers that it has are trained and saved with the model.
    """

    @classmethod
    def from_config(cls, cfg):
        """Build it from a detectron2 config."""
        raise NotImplementedError

    def momentum_pairs(self):
        """Further (online, target) modules of the method; none."""
        return []

    def direction(self, level, query, key, positives):
        """Loss of one direction.

        Args:
            level (str): name of the feature level.
            query, key (LevelView): the view that asks and the other one.
            positives (Tensor): (N, Lq, Lk) bool, pairs by geometry.

        Returns:
            Tensor: 0-d, float32.
        """
        raise NotImplementedError

    def forward(self, level, views, positives):
        """Sum of both directions, 0-d.

        Args:
            level (str): name of the feature level.
            views (tuple[LevelView, LevelView]):
            positives (tuple[Tensor, Tensor]): masks from the first view to the second, and back.
        """
        first, second = views
        there, back = positives
        return self.direction(level, first, second, there) + self.direction(level, second, first, back)
