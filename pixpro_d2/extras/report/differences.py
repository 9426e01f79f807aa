"""What runs have in common and where they differ."""


def flatten(node, prefix=""):
    """Nested dicts as one dict of "A.B.C" to value."""
    flat = {}
    for name, value in node.items():
        if isinstance(value, dict):
            flat |= flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + str(name)] = value
    return flat


def side_by_side(tables):
    """Rows of several dicts.

    Args:
        tables (list[dict]):

    Returns:
        list[tuple]: (name, list of the texts of its values; None where a dict has no such name) for every name, in the
        order of the first dict that has it.
    """
    names = dict.fromkeys(name for table in tables for name in table)
    return [(name, [str(table[name]) if name in table else None for table in tables]) for name in names]


def differing(rows):
    """Those of the rows of :func:`side_by_side` whose values are not all the same."""
    return [(name, values) for name, values in rows if len(set(values)) > 1]
