"""Compare the values of runs."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Row = tuple[str, list[str | None]]  # (name, text of the value in each table)


def side_by_side(tables: Sequence[Mapping[str, Any]]) -> list[Row]:
    """Return the values of several dicts side by side.

    Returns:
        A row for each name, in the order of the first dict with the name. A text is None if the dict lacks the name.
    """
    names = dict.fromkeys(name for table in tables for name in table)
    return [(name, [str(table[name]) if name in table else None for table in tables]) for name in names]


def differing(rows: Iterable[Row]) -> list[Row]:
    """Return the rows of :func:`side_by_side` whose values differ."""
    return [(name, values) for name, values in rows if len(set(values)) > 1]
