"""Choose the checkpoint to resume from: the newest checkpoint that every process can read."""

import logging
import os
import zipfile
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from detectron2.utils import comm
from torch import Tensor

from ..utils.errors import UsageError
from .folder import checkpoint_names, iteration_of, last_iteration, last_name
from .reading import read_checkpoint


def candidates(folder: str) -> list[str]:
    """Return the names of the checkpoints that a run in ``folder`` can resume from, the best first; [] for a new run.

    The file named by ``last_checkpoint`` comes first, even if it is missing. The others follow from the newest to the
    oldest. Checkpoints of iterations after the last checkpoint come at the end: an earlier run left them.
    """
    if not folder:
        return []
    last, newest = last_name(folder), last_iteration(folder)
    others: dict[str, int] = {}
    for name in checkpoint_names(folder):
        if name != last:
            iteration = iteration_of(os.path.join(folder, name))
            others[name] = -1 if iteration is None else iteration
    newest_first = sorted(others, key=lambda name: (others[name] <= newest, others[name], name), reverse=True)
    return [last, *newest_first] if last else newest_first


def common_candidates(folder: str) -> list[str]:
    """Return the :func:`candidates` of the first process that sees any; all processes must call this function."""
    return next(filter(None, comm.all_gather(candidates(folder))), [])


def newest_readable(folder: str, names: Sequence[str], needed: Collection[str]) -> tuple[str, dict[str, Any]]:
    """Read the newest checkpoint that all processes can read; all processes must call this function.

    Log a warning for each skipped checkpoint.

    Args:
        folder: folder of the run; the same for all processes.
        names: :func:`common_candidates` of the folder, the best first.
        needed: entries that a checkpoint of the run must have.

    Returns:
        The path and the contents of the checkpoint.

    Raises:
        UsageError: if no checkpoint is readable.
    """
    faults: list[str] = []
    for name in names:
        path = os.path.join(folder, name)
        checkpoint, fault = _try(path, needed)
        fault = next(filter(None, comm.all_gather(fault)), None)
        if fault is None:
            for skipped in faults:
                logging.getLogger(__name__).warning(f"{skipped}: resuming from {path} instead.")
            return path, checkpoint
        faults.append(fault)
    more = f"; nor from {len(faults) - 1} more" if len(faults) > 1 else ""
    shared = " that all machines share" if comm.get_world_size() > 1 else ""
    raise UsageError(
        f"No checkpoint in {os.path.abspath(folder)} can be resumed from ({faults[0]}{more}): put a complete "
        f"checkpoint there, or start again in another OUTPUT_DIR{shared}."
    )


def _try(path: str, needed: Collection[str]) -> tuple[Any, str | None]:
    """Read a checkpoint: return (contents, None), or (None, a sentence with the reason for the failure)."""
    try:
        return _read(path, needed), None
    except UsageError as error:
        fault = str(error).rstrip(".")
    except OSError as error:
        fault = f"{path} cannot be read ({error.strerror or error})"
    return None, f"On process {comm.get_rank()}: {fault}" if comm.get_world_size() > 1 else fault


def _read(path: str, needed: Collection[str]) -> dict[str, Any]:
    """Read a run's checkpoint; raise a UsageError if the file is damaged or lacks an entry."""
    damage = _damage(path)
    if damage:
        raise UsageError(f"{path} is damaged or cut off ({damage}).")
    checkpoint = read_checkpoint(path)
    missing = [key for key in needed if key not in checkpoint]
    if missing:
        raise UsageError(f"{path} is no checkpoint of such a run: it has no '{missing[0]}'.")
    return checkpoint


def _damage(path: str) -> str:
    """Compare the checksums of a file of torch.save, which torch.load ignores; return the damage, or ""."""
    try:
        with zipfile.ZipFile(path) as archive:
            changed = archive.testzip()
    except OSError:
        raise
    except Exception as error:  # the archive may raise any exception for changed bytes
        return str(error) or type(error).__name__
    return f"{changed} has changed" if changed else ""


def check_fit(theirs: Mapping[str, Tensor], ours: Mapping[str, Tensor], path: str) -> None:
    """Check that a checkpoint has exactly the weights of the model.

    Args:
        theirs: weights of the checkpoint.
        ours: state dict of the model.
        path: path of the checkpoint, for the message.

    Raises:
        UsageError: if there is a difference; the message names the first difference.
    """
    reshaped = next((name for name in theirs if name in ours and theirs[name].shape != ours[name].shape), None)
    missing = next((name for name in ours if name not in theirs), None)
    unknown = next((name for name in theirs if name not in ours), None)
    if reshaped is not None:
        what = f"{reshaped} is {list(theirs[reshaped].shape)} there and {list(ours[reshaped].shape)} here"
    elif missing is not None:
        what = f"it has no {missing}"
    elif unknown is not None:
        what = f"the model has no {unknown}"
    else:
        return
    raise UsageError(
        f"{path} does not fit this config's model ({what}): resume with the config that the run started with, or "
        "start another run in another OUTPUT_DIR with this file as MODEL.WEIGHTS."
    )
