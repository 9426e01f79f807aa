"""Write a run's checkpoints, and report a full or failing disk."""

import errno
import os
import shutil
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch

from ..utils.files import explain_disk_errors, write_file
from .folder import last_name

_FULL_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def save_checkpoint(data: Mapping[str, Any], path: str) -> None:
    """Write a checkpoint durably; delete half-written checkpoints of killed processes in the same folder.

    Args:
        data: contents.
        path: path of the file.
    """
    for half in Path(path).parent.glob("model_*.pth.tmp"):
        if half.is_file():
            half.unlink()
    write_file(path, lambda partial: dump(data, partial))


def dump(data: Mapping[str, Any], path: str) -> None:
    """Write a file by ``torch.save``; keep the reason of a failed write, which is lost if torch opens the file."""
    with open(path, "wb") as file:
        torch.save(data, file)


def report_disk_errors(data: Mapping[str, Any], path: str) -> AbstractContextManager[None]:
    """Turn disk errors inside the context, which saves ``data`` to ``path``, into a UsageError.

    The error names the file, the reason, the free and the needed space, and the checkpoint to resume from.
    """

    def explain(cause: OSError) -> str:
        folder = os.path.dirname(path)
        reason, remedy = cause.strerror or str(cause), "check its disk"
        if cause.errno in _FULL_DISK_ERRORS:
            needed = f"{_size(data) / 1e9:.2f} GB"
            reason += f", with {shutil.disk_usage(folder).free / 1e9:.2f} GB free on its disk and {needed} needed"
            remedy = f"make room for {needed} there"
        before = last_name(folder)
        before = f"the checkpoint before it, {before}, is whole" if before else "there is none before it"
        return f"Checkpoint {path} could not be saved ({reason}); {before}: {remedy} and start again with --resume."

    return explain_disk_errors(explain)


def _size(data: Mapping[str, Any]) -> int:
    """Return the size of a checkpoint's file in bytes."""
    counter: Any = _Counter()  # torch.save needs no more of a file than _Counter has
    torch.save(data, counter)
    return counter.size


class _Counter:
    """Count the bytes written to a file, and store nothing else."""

    size = 0

    def write(self, data: bytes) -> int:
        self.size += len(data)
        return len(data)

    def flush(self) -> None:
        """Do nothing; torch.save expects this method of a file."""
