"""Run programs, each by ``python -m pixpro_d2.tools.NAME``."""

from .. import needs_detectron2  # noqa: F401
