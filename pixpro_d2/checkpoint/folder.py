"""The checkpoints in the folder of a run: their names, their iterations, and which is the last."""

import math
import os
import re

import torch

LAST = "last_checkpoint"  # the file that names the last one, as detectron2 has it
_NUMBERED = re.compile(r"model_(\d+)\.pth")


def checkpoint_names(folder):
    """Names of the files ``model_*.pth`` of a folder, in no order; none where there is no folder."""
    if not os.path.isdir(folder):
        return []
    return [name for name in os.listdir(folder) if name.startswith("model_") and name.endswith(".pth")]


def last_name(folder):
    """Name of the checkpoint that a folder's ``last_checkpoint`` names; "" without that file."""
    try:
        with open(os.path.join(folder, LAST), encoding="utf-8", errors="replace") as file:
            return file.read().strip()
    except FileNotFoundError:
        return ""


def number(name):
    """The iteration in a file's name (``model_0000199.pth`` is after the 200th, 199); None if there is none."""
    numbered = _NUMBERED.fullmatch(name)
    return int(numbered[1]) if numbered else None


def iteration_of(path):
    """The iteration, counted from 0, that a checkpoint was written after: as its name says, or else itself.

    None where neither tells.
    """
    named = number(os.path.basename(path))
    if named is not None:
        return named
    try:  # the weights stay on the disk
        return int(torch.load(path, map_location="cpu", weights_only=True, mmap=True)["iteration"])
    except Exception:  # bytes that are no checkpoint make the decoder raise anything; resuming from it will say what
        return None


def reached(folder):
    """How far a run has come: the iteration of its last checkpoint, infinity where none is named or none tells.

    Later ones in its folder are an earlier run's.
    """
    last = last_name(folder)
    iteration = iteration_of(os.path.join(folder, last)) if last else None
    return math.inf if iteration is None else iteration
