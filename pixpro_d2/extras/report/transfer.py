"""Show the read-outs of a pre-training beside the read-outs of random weights, in a table and in words."""

import math
from collections.abc import Mapping, Sequence

from tabulate import tabulate

READABLE_R2 = 0.1  # lowest R2 at which the position of a pixel counts as readable
PROBE_NOTE = (
    "linear_probe, from 0 to 1: the mean IoU for label maps and boxes, the share of correct images for image classes."
)


def table(found: Mapping[str, float], random: Mapping[str, float] | None = None) -> str:
    """Return read-outs as a text table, beside the read-outs of random weights if given, and explain a linear probe.

    Args:
        found: value by ``NAME/LEVEL``.
        random: values of random weights by the same names.
    """
    columns = [found] if random is None else [found, random]
    headers = ["", "weights", "random"][: len(columns) + 1]
    text = tabulate([[name, *(x[name] for x in columns)] for name in found], headers=headers, floatfmt=".3f")
    return f"{text}\n\n{PROBE_NOTE}" if any(name.startswith("linear_probe/") for name in found) else text


def verdict(found: Mapping[str, float], random: Mapping[str, float]) -> str:
    """Return in words the levels whose read-outs beat random weights, and the levels with a readable position.

    Only levels with a finite read-out count, in both arguments.

    Both arguments are as in :func:`table`, with the same names.
    """
    parts = []
    for name, words in (
        ("linear_probe", "linear probe"),
        ("effective_rank", "effective rank"),
        ("match_accuracy", "match accuracy"),
    ):
        levels = _finite_levels(name, found, random)
        if levels:
            better = [level for level in levels if found[f"{name}/{level}"] > random[f"{name}/{level}"]]
            parts.append(f"the {words} is above random weights on {_listed(better, levels)}")
        elif any(key.startswith(f"{name}/") for key in found):
            parts.append(f"no {words} is measured")
    measured = _finite_levels("height_r2", found)
    readable = [level for level in measured if found[f"height_r2/{level}"] >= READABLE_R2]
    position = f"the position is readable on {_listed(readable, measured)}"
    parts.append(position if measured else "no position is measured")
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]}."


def _finite_levels(name: str, *columns: Mapping[str, float]) -> list[str]:
    """Return the levels at which the read-out ``name`` is finite in all columns."""
    keys = [key for key in columns[0] if key.startswith(f"{name}/")]
    return [key.split("/", 1)[1] for key in keys if all(math.isfinite(column[key]) for column in columns)]


def _listed(levels: Sequence[str], every: Sequence[str]) -> str:
    if not levels:
        return "no level"
    return "all levels" if levels == every else ", ".join(levels)
