"""The checkpoints in the folder of a run: their names, their iterations, and the last checkpoint."""

import math
import os
import re

import torch

LAST = "last_checkpoint"  # detectron2's file with the name of the last checkpoint
_NUMBERED = re.compile(r"model_(\d+)\.pth")


def checkpoint_names(folder: str) -> list[str]:
    """Return the names of the files ``model_*.pth`` in a folder, in no order; [] if the folder is missing."""
    if not os.path.isdir(folder):
        return []
    return [name for name in os.listdir(folder) if name.startswith("model_") and name.endswith(".pth")]


def last_name(folder: str) -> str:
    """Read the name of the last checkpoint from a folder's ``last_checkpoint``; return "" without this file."""
    try:
        with open(os.path.join(folder, LAST), encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except FileNotFoundError:
        return ""


def number(name: str) -> int | None:
    """Return the iteration in a file name (199 in ``model_0000199.pth``, after the 200th); None without a number."""
    numbered = _NUMBERED.fullmatch(name)
    return int(numbered[1]) if numbered else None


def iteration_of(path: str) -> int | None:
    """Return the iteration, counted from 0, after which a checkpoint was written.

    The iteration is read from the file name, or else from the contents; None if both lack it.
    """
    named = number(os.path.basename(path))
    if named is not None:
        return named
    try:  # the weights stay on the disk
        return int(torch.load(path, map_location="cpu", weights_only=True, mmap=True)["iteration"])
    except Exception:  # the decoder may raise any exception for other files; resuming from the file reports the error
        return None


def last_iteration(folder: str) -> float:
    """Return the iteration of a run's last checkpoint; infinity if it is not named or its iteration is unknown.

    Checkpoints of later iterations in the folder are left from an earlier run.
    """
    last = last_name(folder)
    iteration = iteration_of(os.path.join(folder, last)) if last else None
    return math.inf if iteration is None else iteration
