"""What a run that cannot begin leaves behind: nothing, where there was nothing."""

import contextlib
from pathlib import Path

from detectron2.utils import comm

from ..errors import UsageError
from .configure import SEED_FILE, load_config

WRITTEN = ("log.txt", "config.yaml", SEED_FILE, "metrics.json", "events.out.tfevents.*")  # before a run begins


@contextlib.contextmanager
def failed_start_removed(args):
    """Context of the start of a run; a UsageError in it removes the folder OUTPUT_DIR that the start has made.

    A run of several processes keeps the folder, because one of them may still be about to write there.
    """
    folder = Path(load_config(args.config_file, args.opts).OUTPUT_DIR)
    is_new = comm.get_world_size() == 1 and not folder.exists()
    try:
        yield
    except UsageError:
        files = list(folder.iterdir()) if is_new and folder.is_dir() else []
        if files and all(any(path.match(pattern) for pattern in WRITTEN) for path in files):
            for path in files:
                path.unlink()
            folder.rmdir()
        raise
