"""pixpro_d2: PixPro self-supervised pre-training as a detectron2 project.

Importing the package loads nothing: neither PyTorch nor detectron2. ``pretrain``, ``finetune`` and ``load_backbone``
are the commands of these names as functions. The first use of ``add_pixpro_config``, ``data`` or
``modeling`` registers meta-architectures, backbones, heads and data sets with detectron2. ``PixelLearner`` works
without detectron2.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"  # setup.py reads it here

_WHERE = {  # name -> the module that has it
    "PixelLearner": "learner",
    "add_pixpro_config": "registration",
    "finetune": "api",
    "load_backbone": "api",
    "pretrain": "api",
}
_MODULES = ("data", "modeling")
__all__ = [*_WHERE, *_MODULES]


def __getattr__(name: str) -> Any:
    if name in _WHERE:
        return getattr(import_module(f".{_WHERE[name]}", __name__), name)
    if name in _MODULES:
        import_module(".registration", __name__)
        return import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]
