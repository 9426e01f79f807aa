"""Check whether detectron2 is installed; say how to install it."""

from importlib.util import find_spec

HOW = (
    "detectron2 is not installed: run `pixpro-d2 install-detectron2`, or build it from "
    "https://github.com/facebookresearch/detectron2."
)


def detectron2_is_installed() -> bool:
    """Return whether detectron2 can be imported, without importing it.

    A folder of the name without ``__init__.py``, such as a clone of the repository, does not count: it has no origin.
    """
    try:
        spec = find_spec("detectron2")
    except ModuleNotFoundError:
        return False
    return spec is not None and spec.origin is not None
