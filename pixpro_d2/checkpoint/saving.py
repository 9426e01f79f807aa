"""Writing a run's checkpoints, and saying what a full or failing disk means for the run."""

import errno
import os
import shutil
from contextlib import contextmanager
from pathlib import Path

import torch

from ..utils.errors import UsageError
from ..utils.files import write_file
from .folder import last_name

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def save_checkpoint(data, path):
    """Write a checkpoint durably, in place of what a killed process may have left half-written beside it.

    Args:
        data (dict): contents.
        path (str): of the file.
    """
    for half in Path(path).parent.glob("model_*.pth.tmp"):
        if half.is_file():
            half.unlink()
    write_file(path, lambda partial: dump(data, partial))


def dump(data, path):
    """``torch.save`` that tells why a write failed, which that hides when it opens the file itself."""
    with open(path, "wb") as file:
        torch.save(data, file)


@contextmanager
def disk_faults_explained(data, path):
    """Within: errors of the disk that ``data`` is saved on, under ``path``, become a UsageError.

    It says which file, why, how much room there is and should be, and which checkpoint the run can go on from.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        cause = _os_error(error)
        if cause is None:
            raise
        folder = os.path.dirname(path)
        reason, remedy = cause.strerror or str(cause), "see to its disk"
        if cause.errno in _FULL:
            needed = f"{_size(data) / 1e9:.2f} GB"
            reason += f", with {shutil.disk_usage(folder).free / 1e9:.2f} GB free on its disk and {needed} needed"
            remedy = f"make room for {needed} there"
        before = last_name(folder)
        before = f"the checkpoint before it, {before}, is whole" if before else "there is none before it"
        raise UsageError(
            f"Checkpoint {path} could not be saved ({reason}); {before}: {remedy} and start again with --resume."
        ) from error


def _os_error(error):
    """The OSError behind an error or None: of a failed write torch.save only says that the sizes do not add up."""
    while error is not None and not isinstance(error, OSError):
        error = error.__context__
    return error


def _size(data):
    """Bytes of a checkpoint's file."""
    counter = _Counter()
    torch.save(data, counter)
    return counter.size


class _Counter:
    """A file that keeps nothing but its size."""

    size = 0

    def write(self, data):
        self.size += len(data)
        return len(data)

    def flush(self):
        """Part of what torch.save expects of a file."""
