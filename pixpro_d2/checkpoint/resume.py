"""Choose the checkpoint to resume from: the newest checkpoint that every process can read."""

import logging
import os
import zipfile
from collections.abc import Collection
from typing import Any

from detectron2.utils import comm

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


def newest_readable(folder: str, needed: Collection[str]) -> tuple[str, dict[str, Any]]:
    """Read the newest checkpoint that all processes can read; all processes must call this function.

    Log a warning for each skipped checkpoint.

    Args:
        folder: folder of the run; the same for all processes.
        needed: entries that a checkpoint of the run must have.

    Returns:
        The path and the contents of the checkpoint.

    Raises:
        UsageError: if no checkpoint is readable.
    """
    faults: list[str] = []
    for name in common_candidates(folder):
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


def check_fit(incompatible: Any, path: str) -> None:
    """Check that a checkpoint has exactly the weights of the model.

    Args:
        incompatible: the result of fvcore's checkpointer: ``missing_keys``, ``unexpected_keys``, ``incorrect_shapes``.
        path: path of the checkpoint, for the message.

    Raises:
        UsageError: if there is a difference; the message names the first difference.
    """
    if incompatible.incorrect_shapes:
        name, theirs, ours = incompatible.incorrect_shapes[0]
        what = f"{name} is {list(theirs)} there and {list(ours)} here"
    elif incompatible.missing_keys:
        what = f"it has no {incompatible.missing_keys[0]}"
    elif incompatible.unexpected_keys:
        what = f"the model has no {incompatible.unexpected_keys[0]}"
    else:
        return
    raise UsageError(
        f"{path} does not fit this config's model ({what}): resume with the config that the run started with, or "
        "start another run in another OUTPUT_DIR with this file as MODEL.WEIGHTS."
    )
