"""pixpro_d2: PixPro self-supervised pre-training as a detectron2 project.

Importing the package registers its meta-architectures, backbones, ROI heads and data sets with
detectron2 and does nothing else.
"""

from importlib.util import find_spec

if find_spec("detectron2") is None:
    raise ImportError(
        "detectron2 is not installed: run `python tools/install_detectron2.py` in the checkout of pixpro_d2, "
        "or build it from https://github.com/facebookresearch/detectron2."
    )

from . import data, modeling  # noqa: E402  only registration
from .config import add_pixpro_config  # noqa: E402
from .learner import PixelLearner  # noqa: E402

__all__ = ["PixelLearner", "add_pixpro_config", "data", "modeling"]
__version__ = "0.1.0"
