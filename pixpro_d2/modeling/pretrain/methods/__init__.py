"""Pixel-level pretext tasks: which pixels are compared, and by which loss.

To add a task, add a file with one class to this package, and a line to METHODS.
"""

from .base import LevelView, PixelMethod
from .densecl import DenseCLMethod
from .pixcontrast import PixContrastMethod
from .pixpro import PixProMethod
from .slotcon import SlotConMethod

# MODEL.PIXPRO.METHOD -> class; each has `from_config(cfg)`
METHODS: dict[str, type[PixelMethod]] = {
    "pixpro": PixProMethod,
    "pixcontrast": PixContrastMethod,
    "densecl": DenseCLMethod,
    "slotcon": SlotConMethod,
}

__all__ = [
    "METHODS",
    "DenseCLMethod",
    "LevelView",
    "PixContrastMethod",
    "PixProMethod",
    "PixelMethod",
    "SlotConMethod",
]
