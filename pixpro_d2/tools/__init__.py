"""Programs, each ``python -m pixpro_d2.tools.NAME``."""

from .. import needs_detectron2  # noqa: F401
