"""Pixel-level pretext tasks: what is compared with what, and by which loss.

A further one is a file beside these with one class, and a line in METHODS.
"""

from .base import LevelView, PixelMethod
from .densecl import DenseCLMethod
from .pixcontrast import PixContrastMethod
from .pixpro import PixProMethod

# MODEL.PIXPRO.METHOD -> class; each has `from_config(cfg)`
METHODS = {"pixpro": PixProMethod, "pixcontrast": PixContrastMethod, "densecl": DenseCLMethod}

__all__ = ["METHODS", "DenseCLMethod", "LevelView", "PixContrastMethod", "PixProMethod", "PixelMethod"]
