"""Set-up, launcher and training loop."""

from .configure import setup
from .launch import launch
from .trainer import Trainer

__all__ = ["Trainer", "launch", "setup"]
