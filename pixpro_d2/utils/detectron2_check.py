"""Whether detectron2 is there, and how one gets it."""

from importlib.util import find_spec

HOW = (
    "detectron2 is not installed: run `pixpro-d2 install-detectron2`, or build it from "
    "https://github.com/facebookresearch/detectron2."
)


def detectron2_is_installed() -> bool:
    """Return whether detectron2 can be imported, without importing it."""
    try:
        return find_spec("detectron2") is not None
    except ModuleNotFoundError:
        return False
