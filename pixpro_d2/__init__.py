"""Provide PixPro self-supervised pre-training as a detectron2 project.

An import of the package loads neither PyTorch nor detectron2. The functions ``pretrain`` and ``finetune`` do the same
as the commands of these names. ``load_backbone`` returns a trained backbone. The first use of ``default_config``,
``add_pixpro_config``, ``data`` or ``modeling`` registers meta-architectures, backbones, heads and data sets with
detectron2. ``PixelLearner`` works without detectron2.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"  # setup.py reads it here

_MODULE_OF = {  # name -> the module that defines it
    "PixelLearner": "learner",
    "add_pixpro_config": "registration",
    "default_config": "registration",
    "finetune": "api",
    "load_backbone": "api",
    "pretrain": "api",
}
_MODULES = ("data", "modeling")
__all__ = [*_MODULE_OF, *_MODULES]


def __getattr__(name: str) -> Any:
    if name in _MODULE_OF:
        return getattr(import_module(f".{_MODULE_OF[name]}", __name__), name)
    if name in _MODULES:
        import_module(".registration", __name__)
        return import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]
