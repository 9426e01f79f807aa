"""Undo what a run has written that fails before its first iteration."""

import contextlib
from argparse import Namespace
from collections.abc import Iterator
from pathlib import Path

from detectron2.utils import comm

from ...monitoring.run_record import FILE as RUN_FILE
from ...utils.errors import UsageError
from ...utils.files import write_file
from ..configuration.configure import SEED_FILE, command_config

# Patterns of the files that a run writes before its first iteration.
FILES_OF_START = ("log.txt*", "config.yaml", RUN_FILE, SEED_FILE, "metrics.json", "events.out.tfevents.*")


@contextlib.contextmanager
def failed_start_undone(args: Namespace) -> Iterator[None]:
    """Undo the start of a run that an error ends within this context.

    A UsageError removes a new folder OUTPUT_DIR. Any error of a training restores the config.yaml that was in the
    folder, because it belongs to the checkpoints there.

    One of several processes does not remove the folder, because other processes may still write to it. Their launcher
    removes the folder.
    """
    folder = Path(command_config(args).OUTPUT_DIR)
    config = folder / "config.yaml"
    is_new = comm.get_world_size() == 1 and not folder.exists()
    is_kept = config.is_file() and comm.is_main_process() and not args.eval_only
    former = config.read_bytes() if is_kept else None
    try:
        yield
    except BaseException as error:
        if is_new and isinstance(error, UsageError):
            remove_failed_start(folder)
        if former is not None and (not config.is_file() or config.read_bytes() != former):
            with contextlib.suppress(OSError):  # the error that ended the start says more
                write_file(str(config), lambda partial: Path(partial).write_bytes(former))
        raise


def remove_failed_start(folder: Path) -> None:
    """Remove the folder of a run if it only holds files that a run writes before its first iteration."""
    files = list(folder.iterdir()) if folder.is_dir() else []
    if all(any(path.match(pattern) for pattern in FILES_OF_START) for path in files) and not _has_values(folder):
        for path in files:
            path.unlink()
        if folder.is_dir():
            folder.rmdir()


def _has_values(folder: Path) -> bool:
    """Return whether the run in ``folder`` has recorded metrics."""
    metrics = folder / "metrics.json"
    return metrics.is_file() and metrics.stat().st_size > 0
