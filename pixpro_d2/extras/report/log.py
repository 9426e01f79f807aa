"""Read the warnings in the log of a run."""

import re
from pathlib import Path

_ENTRY = re.compile(r"\[\d\d/\d\d \d\d:\d\d:\d\d\] \S+ (WARNING|ERROR|CRITICAL): (.*)")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


def read_warnings(path: Path) -> list[tuple[str, int]]:
    """Read the messages above INFO from a ``log.txt`` of detectron2's.

    Messages that differ only in numbers are of one kind.

    Returns:
        (first message of the kind, number of messages) of each kind, in the order of the log.
    """
    kinds: dict[str, list] = {}
    with open(path, encoding="utf-8", errors="replace") as file:
        for line in file:
            if entry := _ENTRY.match(_COLOUR.sub("", line.rstrip("\n"))):
                message = entry[2]
                kinds.setdefault(re.sub(r"\d+(\.\d+)?", "#", message), [message, 0])[1] += 1
    return [(message, count) for message, count in kinds.values()]
