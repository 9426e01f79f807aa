"""Which checkpoint a run goes on from: the newest that every process can read."""

import logging
import os
import zipfile

from detectron2.utils import comm

from ..utils.errors import UsageError
from .folder import checkpoint_names, iteration_of, last_name, reached
from .reading import read_checkpoint


def candidates(folder):
    """Names of the checkpoints that a run in ``folder`` can go on from, the best first; [] for a new run.

    First what ``last_checkpoint`` names, whether it is there or not, then the others from the newest to the oldest.
    Those after the last one come at the end: an earlier run in the same folder left them.
    """
    if not folder:
        return []
    last, newest = last_name(folder), reached(folder)
    others = {}
    for name in checkpoint_names(folder):
        if name != last:
            iteration = iteration_of(os.path.join(folder, name))
            others[name] = -1 if iteration is None else iteration
    newest_first = sorted(others, key=lambda name: (others[name] <= newest, others[name], name), reverse=True)
    return [last, *newest_first] if last else newest_first


def common_candidates(folder):
    """:func:`candidates` of the first process that sees any; all processes must call it."""
    return next(filter(None, comm.all_gather(candidates(folder))), [])


def newest_readable(folder, needed):
    """Read the newest checkpoint that all processes can read; each of them must call it.

    Those that are passed over are warned of.

    Args:
        folder (str): of the run; the same for all processes.
        needed (Iterable[str]): entries that a checkpoint of the run has.

    Returns:
        tuple[str, dict]: path and contents.

    Raises:
        UsageError: if there is none.
    """
    faults = []
    for name in common_candidates(folder):
        path = os.path.join(folder, name)
        checkpoint, fault = _try(path, needed)
        fault = next(filter(None, comm.all_gather(fault)), None)
        if fault is None:
            for passed_over in faults:
                logging.getLogger(__name__).warning(f"{passed_over}: resuming from {path} instead.")
            return path, checkpoint
        faults.append(fault)
    more = f"; nor from {len(faults) - 1} more" if len(faults) > 1 else ""
    shared = " that all machines share" if comm.get_world_size() > 1 else ""
    raise UsageError(
        f"No checkpoint in {os.path.abspath(folder)} can be resumed from ({faults[0]}{more}): put a whole one there, "
        f"or begin anew in another OUTPUT_DIR{shared}."
    )


def _try(path, needed):
    """(contents, None), or (None, the sentence that says why not)."""
    try:
        return _read(path, needed), None
    except UsageError as error:
        fault = str(error).rstrip(".")
    except OSError as error:
        fault = f"{path} cannot be read ({error.strerror or error})"
    return None, f"On process {comm.get_rank()}: {fault}" if comm.get_world_size() > 1 else fault


def _read(path, needed):
    """The contents of a checkpoint of a run that is complete and as it was written."""
    damage = _damage(path)
    if damage:
        raise UsageError(f"{path} is damaged or cut off ({damage}).")
    checkpoint = read_checkpoint(path)
    missing = [key for key in needed if key not in checkpoint]
    if missing:
        raise UsageError(f"{path} is no checkpoint of such a run: it has no '{missing[0]}'.")
    return checkpoint


def _damage(path):
    """What is wrong with a file of torch.save's by its checksums, which torch.load does not compare; "" if nothing."""
    try:
        with zipfile.ZipFile(path) as archive:
            changed = archive.testzip()
    except OSError:
        raise
    except Exception as error:  # changed bytes make the archive raise anything
        return str(error) or type(error).__name__
    return f"{changed} has changed" if changed else ""


def check_fit(incompatible, path):
    """Check that a checkpoint has exactly the weights of the model.

    Args:
        incompatible: ``missing_keys``, ``unexpected_keys``, ``incorrect_shapes``, as fvcore's checkpointer finds them.
        path (str): of the checkpoint, for the message.

    Raises:
        UsageError: naming the first difference.
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
        f"{path} does not fit this config's model ({what}): resume with the config that the run began with, or begin "
        "another run, in another OUTPUT_DIR, with it as MODEL.WEIGHTS."
    )
