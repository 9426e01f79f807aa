"""The record of a run: run.json in OUTPUT_DIR, with an entry for each start."""

from datetime import datetime
from pathlib import Path

from ..utils.files import read_json, write_json

FILE = "run.json"


def record_start(folder: Path, command: str, machine: dict) -> None:
    """Add a start of the run to its record.

    Args:
        folder: OUTPUT_DIR of the run; it exists.
        command: the command line, as a shell takes it.
        machine: what :func:`~pixpro_d2.utils.machine.describe_machine` returns.
    """
    start = {"time": datetime.now().astimezone().isoformat(timespec="seconds"), "command": command, "machine": machine}
    write_json(Path(folder, FILE), {"starts": [*read_starts(folder), start]}, indent=1)


def read_starts(folder: Path) -> list[dict]:
    """Return the starts of a run, oldest first; none where the record is missing or damaged."""
    record = read_json(Path(folder, FILE))
    starts = record.get("starts") if isinstance(record, dict) else None
    return [x for x in starts if isinstance(x, dict) and "command" in x] if isinstance(starts, list) else []
