"""Loading and saving weights."""

from .checkpointer import PixProCheckpointer

__all__ = ["PixProCheckpointer"]
