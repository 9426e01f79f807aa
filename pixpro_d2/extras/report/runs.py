"""The runs that a page is about, read from their folders."""

import os
from dataclasses import dataclass
from pathlib import Path

import yaml

from ...monitoring.curves import read_curves
from ...monitoring.run_record import FILE, read_starts
from ...utils.errors import UsageError
from .log import read_warnings
from .pictures import find_pictures

_FILES = ("metrics.json", "config.yaml", FILE, "log.txt")


@dataclass(frozen=True)
class Run:
    """What a run has left in its folder; empty where it has left nothing."""

    name: str
    folder: Path
    #: the config, nested dicts
    config: dict
    #: see :mod:`.curves`
    curves: dict
    #: an entry for each start, see :mod:`pixpro_d2.monitoring.run_record`
    starts: list
    #: (message, number of times) of each kind of warning
    warnings: list
    #: list of Picture
    pictures: list
    #: sentences about files that are missing or damaged
    remarks: list

    def key(self, path, default=None):
        """Value of a config key, such as "SOLVER.MAX_ITER"."""
        node = self.config
        for part in path.split("."):
            if not isinstance(node, dict) or part not in node:
                return default
            node = node[part]
        return node

    @property
    def is_pretraining(self):
        """Whether it is a pre-training; without a config, whether it moved a target branch."""
        architecture = self.key("MODEL.META_ARCHITECTURE")
        return architecture == "PixPro" if architecture else "ema_momentum" in self.curves

    @property
    def iterations(self):
        """Number of iterations that are recorded."""
        times = self.curves.get("total_loss") or self.curves.get("time")
        return times[-1][0] + 1 if times else 0

    @property
    def is_finished(self):
        """Whether it has come to its end.

        A ``model_final.pth`` may be of an earlier, shorter one, so it counts only where the length is not known.
        """
        length = self.key("SOLVER.MAX_ITER")
        return self.iterations >= length if length else (self.folder / "model_final.pth").is_file()


def find_runs(folders):
    """Folders of runs: each of ``folders`` that is one, or those directly in it.

    Raises:
        UsageError: for a folder that neither is nor holds one.
    """
    found = []
    for folder in map(Path, folders):
        here = [folder] if _is_run(folder) else sorted(filter(_is_run, folder.iterdir())) if folder.is_dir() else []
        if not here:
            raise UsageError(
                f"There is no run in {folder}: name the OUTPUT_DIR of one, which has a metrics.json, config.yaml or "
                "log.txt, or a folder of such."
            )
        found += here
    return list(dict.fromkeys(path.resolve() for path in found))


def _is_run(folder):
    return folder.is_dir() and any((folder / name).is_file() for name in _FILES)


def short_names(folders):
    """A name for each of several folders: the last part of its path, or as many parts as tell them all apart."""
    parts = [Path(folder).parts for folder in folders]
    for count in range(1, max(map(len, parts)) + 1):
        names = [os.path.join(*path[-count:]) for path in parts]
        if len(set(names)) == len(names):
            return names
    return names


def read_run(folder, name):
    """Read what there is of a run.

    Args:
        folder (Path): its OUTPUT_DIR.
        name (str): what the page calls it.

    Returns:
        Run:
    """
    remarks = []
    curves, starts, warnings = {}, read_starts(folder), []
    if (folder / "metrics.json").is_file():
        curves, damaged = read_curves(folder / "metrics.json")
        if damaged:
            remarks.append(f"{damaged} damaged lines of metrics.json were left out.")
        if not curves:
            remarks.append("metrics.json has no values yet.")
    else:
        remarks.append("There is no metrics.json, so there are no curves.")
    config = _read_config(folder / "config.yaml")
    if not config:
        remarks.append("There is no readable config.yaml, so what was run is not known.")
    if not starts:
        remarks.append(f"There is no readable {FILE}, so command and machine are not known.")
    if (folder / "log.txt").is_file():
        warnings = read_warnings(folder / "log.txt")
    else:
        remarks.append("There is no log.txt, so warnings are not known.")
    return Run(name, folder, config, curves, starts, warnings, find_pictures(folder / "vis"), remarks)


def _read_config(path):
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    return content if isinstance(content, dict) else {}
