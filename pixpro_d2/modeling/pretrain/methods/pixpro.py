"""PixPro: matching pixels agree (Xie et al. 2021, section 3.2)."""

from typing import TYPE_CHECKING

from torch import Tensor

from ..losses import pixpro_loss
from .base import LevelView, PixelMethod

if TYPE_CHECKING:
    from detectron2.config import CfgNode


class PixProMethod(PixelMethod):
    """Make positive pairs consistent, without negatives; each direction is in [-2, 2]."""

    def __init__(self, mean_over: str = "all") -> None:
        """
        Args:
            mean_over: ``all`` images, as in the official code, or ``matched`` images only.
        """
        super().__init__()
        self.mean_over = mean_over

    @classmethod
    def from_config(cls, cfg: "CfgNode") -> "PixProMethod":
        return cls(cfg.MODEL.PIXPRO.MEAN_OVER)

    def direction(self, level: str, query: LevelView, key: LevelView, positives: Tensor) -> Tensor:
        return pixpro_loss(query.queries, key.keys, positives, self.mean_over)
