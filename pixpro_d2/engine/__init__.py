"""Set-up, launcher and training loop."""

from .. import needs_detectron2  # noqa: F401
from ..launch_arguments import argument_parser
from .configuration.configure import setup
from .processes.launch import launch
from .trainer import Trainer

__all__ = ["Trainer", "argument_parser", "launch", "setup"]
