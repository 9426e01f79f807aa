"""PixContrast: a pixel against the other pixels of the other view (Xie et al. 2021, section 3.1)."""

from ..losses import pixcontrast_loss
from .base import PixelMethod


class PixContrastMethod(PixelMethod):
    """Contrast within the other view of the same image; the sum of both directions is their mean."""

    def __init__(self, temperature=0.3):
        """
        Args:
            temperature (float): tau; 0.3 is the paper's best.
        """
        super().__init__()
        self.temperature = temperature

    @classmethod
    def from_config(cls, cfg):
        return cls(cfg.MODEL.PIXPRO.TEMPERATURE)

    def direction(self, level, query, key, positives):
        return pixcontrast_loss(query.queries, key.keys, positives, self.temperature) / 2
