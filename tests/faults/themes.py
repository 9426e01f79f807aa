"""All faults, and the headings of their themes in the order of the table."""

from . import killing, ranks, disk, images, numerics, security, mistakes  # noqa: F401, I001 each registers its own
from .registry import FAULTS

THEMES = {
    "killing": "Killed, stopped, interrupted",
    "ranks": "One of several processes",
    "disk": "Disks and checkpoints",
    "images": "Images and the workers that read them",
    "numerics": "Infinite, NaN, collapsed",
    "security": "Files made by somebody else",
    "mistakes": "Mistakes in configs and data sets",
}

__all__ = ["FAULTS", "THEMES"]
