"""Data sets, views and loaders; importing it registers the ImageNet data sets."""

import os

from .catalog import ensure_registered
from .datasets.imagenet import register_imagenet
from .loader import build_view_loader
from .mapper import TwoViewMapper

register_imagenet(os.path.expanduser(os.getenv("DETECTRON2_DATASETS", "datasets")))

__all__ = ["TwoViewMapper", "build_view_loader", "ensure_registered"]
