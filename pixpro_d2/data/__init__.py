"""Data sets, views and loaders; importing the package registers further data sets below $DETECTRON2_DATASETS.

Without detectron2 the package has only the modules that PixelLearner uses.
"""

import os

from ..utils.detectron2_check import detectron2_is_installed

if detectron2_is_installed():
    from .datasets.builtin import register_builtin
    from .datasets.catalog import ensure_registered
    from .pretrain.loader import build_view_loader
    from .pretrain.mapper import TwoViewMapper

    register_builtin(os.path.expanduser(os.getenv("DETECTRON2_DATASETS", "datasets")))

    __all__ = ["TwoViewMapper", "build_view_loader", "ensure_registered"]
