"""Choose the checkpoints of a run to keep, and delete the others."""

from collections.abc import Iterable
from pathlib import Path

from .folder import checkpoint_names, last_iteration, number


def superseded(names: Iterable[str], keep_last: int, keep_every: int) -> list[str]:
    """Return the checkpoints to delete, oldest first.

    Args:
        names: file names; only names with a number, such as ``model_0000199.pth``, can be superseded.
        keep_last: number of newest checkpoints to keep; 0 keeps all.
        keep_every: number of iterations between older checkpoints to keep: the first checkpoint at or after each
            multiple (``model_0000199.pth`` is after 200); 0 keeps none.
    """
    numbers = {name: iteration for name in names if (iteration := number(name)) is not None}
    numbered = sorted(numbers, key=numbers.__getitem__)
    older = numbered[:-keep_last] if keep_last else []
    first: dict[int, str] = {}  # the first checkpoint at or after each multiple
    for name in numbered:
        if keep_every and numbers[name] + 1 >= keep_every:
            first.setdefault((numbers[name] + 1) // keep_every, name)
    return [name for name in older if name not in first.values()]


def remove_superseded(folder: str, keep_last: int, keep_every: int) -> None:
    """Delete the superseded checkpoints of a run; to be called by one process after a save.

    The checkpoint named by ``last_checkpoint`` stays. Checkpoints of later iterations stay, too: an earlier run must
    have left them.

    Args:
        folder: folder of the run.
        keep_last, keep_every: see :func:`superseded`.
    """
    newest = last_iteration(folder)
    of_this_run = [name for name in checkpoint_names(folder) if (number(name) or 0) <= newest]
    for name in superseded(of_this_run, keep_last, keep_every):
        Path(folder, name).unlink(missing_ok=True)
