"""Name the feature levels of a run, explain them, and give each the same colour in all charts."""

import re
from collections.abc import Iterable

from .runs import Run

_LEVEL = re.compile(r"(?:.*[/_])?((?:p|res|s)\d+)")  # p3, test/p3, variance_p3, res5


def level_of(label: str) -> str:
    """Return the level at the end of a curve's label, "" if the label ends in none."""
    match = _LEVEL.fullmatch(label)
    return match[1] if match else ""


def levels_of(names: Iterable[str]) -> list[str]:
    """Return the levels in names of curves, finest first."""
    found = {level for name in names if (level := level_of(name))}
    return sorted(found, key=lambda level: (len(level), level))


def explain(run: Run) -> list[tuple[str, str]]:
    """Return (level, size of a bin) of each level that a pre-training compares."""
    levels = run.key("MODEL.PIXPRO.IN_FEATURES") or []
    return [(level, _bin(level)) for level in levels] if run.is_pretraining else []


def _bin(level: str) -> str:
    match = re.fullmatch(r"(p|res|s)(\d+)", level)
    if not match:
        return ""
    side = 2 ** (int(match[2]) + (match[1] == "s"))  # RegNet's s1 is a ResNet's res2
    return f"{side} × {side}"
