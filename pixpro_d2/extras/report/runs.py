"""Read the runs that a page is about from their folders."""

import os
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...monitoring.curves import Curve, read_curves
from ...monitoring.run_record import FILE, read_starts
from ...utils.errors import UsageError
from ...utils.files import read_yaml
from .log import read_warnings
from .pictures import Picture, find_pictures

_FILES = ("metrics.json", "config.yaml", FILE, "log.txt")


@dataclass(frozen=True)
class Run:
    """Hold the contents of a run's folder; missing contents are empty."""

    name: str
    folder: Path
    #: nested dicts of the config
    config: dict[str, Any]
    #: see :mod:`.curves`
    curves: dict[str, Curve]
    #: an entry for each start, see :mod:`pixpro_d2.monitoring.run_record`
    starts: list[dict[str, Any]]
    #: (message, number of times) of each kind of warning
    warnings: list[tuple[str, int]]
    #: pictures over time
    pictures: list[Picture]
    #: sentences about missing or damaged files
    remarks: list[str]

    def key(self, path: str, default: Any = None) -> Any:
        """Return the value of a config key, such as "SOLVER.MAX_ITER"."""
        node = self.config
        for part in path.split("."):
            if not isinstance(node, dict) or part not in node:
                return default
            node = node[part]
        return node

    @property
    def is_pretraining(self) -> bool:
        """Return whether the run is a pre-training; without a config, whether it moved a target branch."""
        architecture = self.key("MODEL.META_ARCHITECTURE")
        return architecture == "PixPro" if architecture else "ema_momentum" in self.curves

    @property
    def iterations(self) -> int:
        """Return the number of recorded iterations."""
        times = self.curves.get("total_loss") or self.curves.get("time")
        return times[-1][0] + 1 if times else 0

    @property
    def is_finished(self) -> bool:
        """Return whether the run has reached its end.

        An earlier, shorter run may have left ``model_final.pth``. So the file counts only if the length is unknown.
        """
        length = self.key("SOLVER.MAX_ITER")
        return self.iterations >= length if length else (self.folder / "model_final.pth").is_file()

    def is_at_end(self, iteration: int) -> bool:
        """Return whether an iteration is the last of the training; if its length is unknown, the last recorded one."""
        return iteration >= (self.key("SOLVER.MAX_ITER") or self.iterations) - 1


def find_runs(folders: Iterable[str | Path]) -> list[Path]:
    """Find the folders of runs: each of ``folders`` itself, or the runs in it and in its folders.

    Entries of ``folders`` without a run, such as an earlier report, are skipped, and a line on stderr names them.

    Raises:
        UsageError: if an entry does not exist, or none of the entries is or holds a run.
    """
    found = {folder: _runs_in(Path(folder)) for folder in folders}
    missing = ", ".join(str(folder) for folder in found if not Path(folder).exists())
    empty = ", ".join(str(folder) for folder, runs in found.items() if not runs)
    if missing or not any(found.values()):
        raise UsageError(
            f"There is no run in {missing or empty}: name the OUTPUT_DIR of one, which has a metrics.json, config.yaml "
            "or log.txt, or a folder of such."
        )
    if empty:
        print(f"Skipped, because there is no run: {empty}", file=sys.stderr)
    return list(dict.fromkeys(path.resolve() for runs in found.values() for path in runs))


def _runs_in(folder: Path, depth: int = 2) -> list[Path]:
    try:
        if _is_run(folder):
            return [folder]
        inner = sorted(folder.iterdir()) if depth and folder.is_dir() else []
    except PermissionError:  # such as lost+found
        return []
    return [path for entry in inner for path in _runs_in(entry, depth - 1)]


def _is_run(folder: Path) -> bool:
    return folder.is_dir() and any((folder / name).is_file() for name in _FILES)


def short_names(folders: Sequence[str | Path]) -> list[str]:
    """Return a name for each folder: the last part of its path, or as many parts as distinguish all folders."""
    parts = [Path(folder).parts for folder in folders]
    for count in range(1, max(map(len, parts)) + 1):
        names = [os.path.join(*path[-count:]) for path in parts]
        if len(set(names)) == len(names):
            return names
    return names


def read_run(folder: Path, name: str) -> Run:
    """Read the contents of a run's OUTPUT_DIR; the page shows the run by ``name``."""
    remarks = []
    curves: dict[str, Curve] = {}
    warnings: list[tuple[str, int]] = []
    starts = read_starts(folder)
    if (folder / "metrics.json").is_file():
        curves, damaged = read_curves(folder / "metrics.json")
        if damaged:
            remarks.append(f"{damaged} damaged lines of metrics.json were skipped.")
        if not curves:
            remarks.append("metrics.json has no values yet.")
    else:
        remarks.append("There is no metrics.json, so there are no curves.")
    config = read_config(folder / "config.yaml")
    if not config:
        remarks.append("There is no readable config.yaml, so what was run is not known.")
    if not starts:
        remarks.append(f"There is no readable {FILE}, so command and machine are not known.")
    if (folder / "log.txt").is_file():
        warnings = read_warnings(folder / "log.txt")
    else:
        remarks.append("There is no log.txt, so warnings are not known.")
    return Run(name, folder, config, curves, starts, warnings, find_pictures(folder / "vis"), remarks)


def read_config(path: Path) -> dict[str, Any]:
    """Return the contents of a config.yaml; {} if it is missing or damaged."""
    try:
        return read_yaml(path) or {}
    except OSError:
        return {}
