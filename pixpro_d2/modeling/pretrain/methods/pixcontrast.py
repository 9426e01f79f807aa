"""PixContrast: a pixel against the other pixels of the other view (Xie et al. 2021, section 3.1)."""

from typing import TYPE_CHECKING

from torch import Tensor

from ..losses import pixcontrast_loss
from .base import LevelView, PixelMethod

if TYPE_CHECKING:
    from detectron2.config import CfgNode


class PixContrastMethod(PixelMethod):
    """Contrast each pixel within the other view of its image; each direction counts half, so the loss is their mean."""

    def __init__(self, temperature: float = 0.3) -> None:
        """
        Args:
            temperature: tau; 0.3 is the paper's best.
        """
        super().__init__()
        self.temperature = temperature

    @classmethod
    def from_config(cls, cfg: "CfgNode") -> "PixContrastMethod":
        return cls(cfg.MODEL.PIXPRO.TEMPERATURE)

    def direction(self, level: str, query: LevelView, key: LevelView, positives: Tensor) -> Tensor:
        return pixcontrast_loss(query.queries, key.keys, positives, self.temperature) / 2
