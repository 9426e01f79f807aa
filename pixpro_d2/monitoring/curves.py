"""The recorded values of a run.

A curve is a list of (iteration, value) with rising iterations; a value may be infinite or NaN.
"""

import json
import math
from bisect import bisect_left
from collections.abc import Sequence
from pathlib import Path
from statistics import median

STRETCH_COUNT = 10  # of a curve, each with a median

Curve = list[tuple[int, float]]


def read_curves(path: str | Path) -> tuple[dict[str, Curve], int]:
    """Read the curves in a ``metrics.json`` of detectron2, which has one JSON object per line.

    A resumed run repeats the iterations since its checkpoint. The later lines then replace all earlier values from the
    repeated iteration on, also the values that the resumed run does not record.

    Args:
        path: path of the file.

    Returns:
        The curves by name, and the number of lines that could not be read. A process that was killed while it wrote
        leaves such a line.
    """
    attempts: list[dict[str, Curve]] = [{}]
    damaged = 0
    with open(path, encoding="utf-8", errors="replace") as file:
        for line in filter(str.strip, file):
            try:
                values = json.loads(line)
                iteration = int(values.pop("iteration"))
            except (ValueError, KeyError, TypeError, AttributeError, OverflowError):
                damaged += 1
                continue
            found = {name: float(value) for name, value in values.items() if isinstance(value, (int, float))}
            # Within an attempt lines may come out of order, but each name is recorded at rising iterations.
            if any(attempts[-1][name][-1][0] >= iteration for name in found.keys() & attempts[-1].keys()):
                attempts.append({})
            for name, value in found.items():
                attempts[-1].setdefault(name, []).append((iteration, value))
    return _join(attempts), damaged


def _join(attempts: Sequence[dict[str, Curve]]) -> dict[str, Curve]:
    """Join the curves of the attempts of a run; each attempt replaces the values from its first iteration on."""
    curves: dict[str, Curve] = {}
    for attempt in attempts:
        start = min((curve[0][0] for curve in attempt.values()), default=0)
        for curve in curves.values():
            del curve[bisect_left(curve, (start,)) :]
        for name, curve in attempt.items():
            curves.setdefault(name, []).extend(curve)
    return {name: curve for name, curve in curves.items() if curve}


def finite(curve: Sequence[tuple[int, float]]) -> Curve:
    """Return the curve without infinite and NaN values."""
    return [point for point in curve if math.isfinite(point[1])]


def medians(curve: Sequence[tuple[int, float]]) -> list[float]:
    """Return the medians of STRETCH_COUNT equal stretches of a finite curve; of a shorter curve, the values."""
    values = [value for _, value in curve]
    count = min(STRETCH_COUNT, len(values))
    return [median(values[i * len(values) // count : (i + 1) * len(values) // count]) for i in range(count)]


def ratio(curve: Sequence[tuple[int, float]], other: Sequence[tuple[int, float]]) -> Curve:
    """Divide ``curve`` by ``other`` at the iterations where both have a value and ``other`` is not 0."""
    below = dict(other)
    return [(i, value / below[i]) for i, value in curve if below.get(i)]


def thin(curve: Curve, limit: int = 800) -> Curve:
    """Return a curve that looks the same, with little more than ``limit`` (even) points at the most.

    Each of ``limit`` / 2 equal stretches keeps its lowest and its highest value. The first and last points stay.
    """
    if len(curve) <= limit:
        return curve
    stretches = limit // 2
    kept = {0, len(curve) - 1}
    for number in range(stretches):
        indices = range(number * len(curve) // stretches, (number + 1) * len(curve) // stretches)
        known: Sequence[int] = [i for i in indices if math.isfinite(curve[i][1])] or indices[:1]
        kept |= {min(known, key=lambda i: curve[i][1]), max(known, key=lambda i: curve[i][1])}
    return [curve[i] for i in sorted(kept)]
