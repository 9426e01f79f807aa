"""Compare the names of classes."""

from collections.abc import Sequence
from itertools import zip_longest


def first_difference(expected: Sequence[str], found: Sequence[str]) -> tuple[int, str, str] | None:
    """Return the first class that differs: its number, and both names in quotes or "missing"; None if all agree."""
    for i, (wanted, name) in enumerate(zip_longest(expected, found)):
        if wanted != name:
            return i, _quoted(wanted), _quoted(name)
    return None


def _quoted(name: str | None) -> str:
    return "missing" if name is None else f"'{name}'"
