"""PixPro: matching pixels agree (Xie et al. 2021, section 3.2)."""

from ..losses import pixpro_loss
from .base import PixelMethod


class PixProMethod(PixelMethod):
    """Consistency of positive pairs, without negatives; each direction in [-2, 2]."""

    def __init__(self, mean_over="all"):
        """
        Args:
            mean_over (str): ``all`` images, as in the official code, or those ``matched``.
        """
        super().__init__()
        self.mean_over = mean_over

    @classmethod
    def from_config(cls, cfg):
        return cls(cfg.MODEL.PIXPRO.MEAN_OVER)

    def direction(self, level, query, key, positives):
        return pixpro_loss(query.queries, key.keys, positives, self.mean_over)
