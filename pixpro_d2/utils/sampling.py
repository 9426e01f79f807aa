"""Choose some of many items without random numbers."""

from collections.abc import Sequence
from typing import TypeVar

Item = TypeVar("Item")


def evenly_spread(items: Sequence[Item], count: int) -> list[Item]:
    """Return ``count`` of the items, evenly spread from the first; items repeat if there are fewer."""
    return [items[i * len(items) // count] for i in range(count)]


def scattered(i: float) -> float:
    """Return the ``i``-th number of a sequence in [0, 1) whose neighbours are far apart."""
    return i * 0.6180339887 % 1  # golden ratio
