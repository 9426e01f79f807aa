"""Which checkpoints of a run are kept."""

from pathlib import Path

from .folder import checkpoint_names, number, reached


def superseded(names, keep_last, keep_every):
    """The checkpoints that need not be kept.

    Args:
        names (Iterable[str]): of files; those with a number, ``model_0000199.pth``, can be superseded.
        keep_last (int): the newest so many are kept; 0: all.
        keep_every (int): of all others, the first at or after each multiple of so many iterations is kept too
            (``model_0000199.pth`` is after 200); 0: none besides.

    Returns:
        list[str]: oldest first.
    """
    numbered = sorted((name for name in names if number(name) is not None), key=number)
    older = numbered[:-keep_last] if keep_last else []
    first = {}  # by how many multiples lie behind it
    for name in numbered:
        if keep_every and number(name) + 1 >= keep_every:
            first.setdefault((number(name) + 1) // keep_every, name)
    return [name for name in older if name not in first.values()]


def remove_superseded(folder, keep_last, keep_every):
    """Delete the superseded checkpoints of a run, by one process after a save.

    The one that ``last_checkpoint`` names stays, and so do later ones, which an earlier run must have left.

    Args:
        folder (str): of the run.
        keep_last, keep_every (int): as for :func:`superseded`.
    """
    newest = reached(folder)
    of_this_run = [name for name in checkpoint_names(folder) if (number(name) or 0) <= newest]
    for name in superseded(of_this_run, keep_last, keep_every):
        Path(folder, name).unlink(missing_ok=True)
