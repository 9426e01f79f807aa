"""Load and save weights."""

from .checkpointer import PixProCheckpointer
from .convention import InputConvention

__all__ = ["InputConvention", "PixProCheckpointer"]
