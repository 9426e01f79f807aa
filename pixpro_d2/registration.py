"""Register all parts that detectron2 finds by name; an import of this module is enough."""

from . import data, modeling, needs_detectron2  # noqa: F401
from .config import add_pixpro_config, default_config

__all__ = ["add_pixpro_config", "default_config"]
