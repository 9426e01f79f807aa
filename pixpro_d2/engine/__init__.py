"""Set-up, launcher and training loop."""

from detectron2.engine import default_argument_parser as argument_parser

from .configure import setup
from .launch import launch
from .trainer import Trainer

__all__ = ["Trainer", "argument_parser", "launch", "setup"]
