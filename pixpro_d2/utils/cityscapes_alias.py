"""Make cityscapesscripts importable under the name that detectron2 uses after v0.6.

The main branch of detectron2 imports ``deeplearning.projects.cityscapesApi.cityscapesscripts``. Only Facebook has this
package (detectron2 issue 5436).
"""

import importlib
import importlib.util
import sys
import types
from typing import Any

from .errors import UsageError

PARENTS = ("deeplearning", "deeplearning.projects", "deeplearning.projects.cityscapesApi")


def check_cityscapesscripts() -> None:
    """Raise a UsageError unless cityscapesscripts, an extra of this project, is installed."""
    if not _is_installed():
        raise UsageError("Cityscapes data need cityscapesscripts: run `pip install cityscapesscripts shapely`.")


def alias_cityscapesscripts(*names: str) -> None:
    """Make modules of cityscapesscripts, such as ``helpers.labels``, importable by both names, as the same objects.

    Change nothing if a package ``deeplearning`` is installed, or cityscapesscripts is not.
    """
    if not _is_installed():
        return
    if "deeplearning" in sys.modules:
        if not getattr(sys.modules["deeplearning"], "_stands_in", False):
            return
    elif importlib.util.find_spec("deeplearning") is not None:
        return
    for name in PARENTS:
        if name not in sys.modules:
            package: Any = types.ModuleType(name)
            package.__path__, package._stands_in = [], True
            _add(name, package)
    for name in names:
        parts = ["cityscapesscripts", *name.split(".")]
        for length in range(1, len(parts) + 1):
            real = ".".join(parts[:length])
            _add(f"{PARENTS[-1]}.{real}", importlib.import_module(real))


def _add(name: str, module: types.ModuleType) -> None:
    sys.modules[name] = module
    parent, _, last = name.rpartition(".")
    if parent:
        setattr(sys.modules[parent], last, module)


def _is_installed() -> bool:
    try:
        return importlib.util.find_spec("cityscapesscripts") is not None
    except ModuleNotFoundError:
        return False
