"""Putting files in place: complete or not at all."""

import hashlib
import os
from pathlib import Path


def write_file(path, write, with_hash=False):
    """Write a file under a temporary name, and rename it when it is complete.

    Args:
        path (str): of the file.
        write (Callable[[str], None]): writes to the path it is given.
        with_hash (bool): put the first 8 hexadecimal digits of the contents' SHA-256 into the name, before the
            suffix, as ``torch.hub.load_state_dict_from_url(check_hash=True)`` checks them.

    Returns:
        str: the path.
    """
    partial = f"{path}.tmp"
    try:
        write(partial)
        if with_hash:
            digest = hashlib.sha256(Path(partial).read_bytes()).hexdigest()[:8]
            path = str(Path(path).with_name(f"{Path(path).stem}-{digest}{Path(path).suffix}"))
        os.replace(partial, path)
    finally:
        Path(partial).unlink(missing_ok=True)
    return path
