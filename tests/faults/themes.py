"""All faults, in the order of the table."""

from . import killing, ranks, disk, images, numerics, security, mistakes  # noqa: F401, I001 each registers its own
from .registry import FAULTS

__all__ = ["FAULTS"]
