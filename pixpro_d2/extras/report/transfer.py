"""A pre-training's read-outs beside those of random weights, in a table and in words; pure functions."""

from tabulate import tabulate

READABLE = 0.1  # R2 from which on the position of a pixel counts as readable


def table(found, random=None):
    """Return read-outs as text, random weights beside them.

    Args:
        found, random (dict[str, float]): ``NAME/LEVEL`` to value; without ``random`` a column less.
    """
    columns = [found] if random is None else [found, random]
    headers = ["", "weights", "random"][: len(columns) + 1]
    return tabulate([[name, *(x[name] for x in columns)] for name in found], headers=headers, floatfmt=".3f")


def verdict(found, random):
    """Return in words at which levels read-outs beat those of random weights, and where position is readable.

    Args:
        found, random (dict[str, float]): as of :func:`table`, with the same names.
    """
    parts = []
    for name, words in (
        ("linear_probe", "the linear probe"),
        ("effective_rank", "the effective rank"),
        ("match_accuracy", "the match accuracy"),
    ):
        levels = _levels(found, name)
        if levels:
            better = [level for level in levels if found[f"{name}/{level}"] > random[f"{name}/{level}"]]
            parts.append(f"{words} is above random weights on {_listed(better, levels)}")
    readable = [level for level in _levels(found, "height_r2") if found[f"height_r2/{level}"] >= READABLE]
    parts.append(f"the position is readable on {_listed(readable, _levels(found, 'height_r2'))}")
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]}."


def _levels(found, name):
    return [key.split("/", 1)[1] for key in found if key.startswith(f"{name}/")]


def _listed(levels, every):
    if not levels:
        return "no level"
    return "all levels" if levels == every else ", ".join(levels)
