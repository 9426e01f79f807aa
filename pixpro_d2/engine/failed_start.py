"""What a run that cannot begin leaves behind: nothing, where there was nothing."""

import contextlib
from pathlib import Path

from detectron2.utils import comm

from ..errors import UsageError
from .configure import SEED_FILE, command_config

WRITTEN = ("log.txt*", "config.yaml", SEED_FILE, "metrics.json", "events.out.tfevents.*")  # before a run begins


@contextlib.contextmanager
def failed_start_removed(args):
    """Context of the start of a run; a UsageError in it removes the folder OUTPUT_DIR that the start has made.

    Of several processes none removes it, since others may be about to write there: their launcher does.
    """
    folder = Path(command_config(args).OUTPUT_DIR)
    is_new = comm.get_world_size() == 1 and not folder.exists()
    try:
        yield
    except UsageError:
        if is_new:
            remove_failed_start(folder)
        raise


def remove_failed_start(folder):
    """Remove the folder (Path) of a run if it holds nothing but what a run writes before its first iterations."""
    files = list(folder.iterdir()) if folder.is_dir() else []
    if all(any(path.match(pattern) for pattern in WRITTEN) for path in files) and not _has_values(folder):
        for path in files:
            path.unlink()
        if folder.is_dir():
            folder.rmdir()


def _has_values(folder):
    metrics = folder / "metrics.json"
    return metrics.is_file() and metrics.stat().st_size > 0
