"""Set-up, launcher and training loop."""

from .launch import launch
from .setup import setup
from .trainer import Trainer

__all__ = ["Trainer", "launch", "setup"]
