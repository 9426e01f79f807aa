"""The recorded values of a run.

A curve is a list of (iteration, value) with rising iterations; a value may be infinite or NaN.
"""

import json
import math
from statistics import median


def read_curves(path):
    """Curves of a ``metrics.json`` of detectron2's, one JSON object a line.

    A resumed run repeats the iterations since its checkpoint: of a value that was recorded again, the later lines
    count from there on.

    Args:
        path (Path): of the file.

    Returns:
        tuple[dict[str, list], int]: the curves by name, and the number of lines that could not be read (that of a
        process that was killed while it wrote).
    """
    curves, damaged = {}, 0
    with open(path, encoding="utf-8", errors="replace") as file:
        for line in filter(str.strip, file):
            try:
                values = json.loads(line)
                iteration = int(values.pop("iteration"))
            except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
                damaged += 1
                continue
            for name, value in values.items():
                if isinstance(value, (int, float)):
                    append(curves.setdefault(name, []), iteration, float(value))
    return curves, damaged


def append(curve, iteration, value):
    """Add a value to a curve, in place of those that it has from this iteration on."""
    while curve and curve[-1][0] >= iteration:
        curve.pop()
    curve.append((iteration, value))


def finite(curve):
    """The curve without values that are infinite or NaN."""
    return [point for point in curve if math.isfinite(point[1])]


def medians(curve, count=10):
    """Medians (list) of ``count`` equal stretches of a curve, all finite; of single values if it has no more."""
    values = [value for _, value in curve]
    count = min(count, len(values))
    return [median(values[i * len(values) // count : (i + 1) * len(values) // count]) for i in range(count)]


def ratio(curve, other):
    """``curve`` / ``other`` where both have a value and the second is not 0."""
    below = dict(other)
    return [(i, value / below[i]) for i, value in curve if below.get(i)]


def thin(curve, limit=800):
    """A curve of at most ``limit`` (even) points or little more that looks the same.

    Each of ``limit`` / 2 equal stretches keeps its lowest and its highest value, and the first and last points stay.
    """
    if len(curve) <= limit:
        return curve
    stretches = limit // 2
    kept = {0, len(curve) - 1}
    for number in range(stretches):
        indices = range(number * len(curve) // stretches, (number + 1) * len(curve) // stretches)
        known = [i for i in indices if math.isfinite(curve[i][1])] or indices[:1]
        kept |= {min(known, key=lambda i: curve[i][1]), max(known, key=lambda i: curve[i][1])}
    return [curve[i] for i in sorted(kept)]
