"""Reading and writing files: atomically, with a clear error, and JSON."""

import errno
import hashlib
import json
import os
import stat
from collections.abc import Callable
from pathlib import Path


def write_file(path: str, write: Callable[[str], object], with_hash: bool = False) -> str:
    """Write a file under a temporary name, and rename it when all of it is on the disk.

    A process that is killed leaves what was there before, and perhaps ``path.tmp``; so does a machine that loses
    power. The file has the permissions of any new file in its folder, whatever ``write`` gives it.

    Args:
        path: of the file.
        write: writes to the path it is given.
        with_hash: put the first 8 hexadecimal digits of the contents' SHA-256 into the name, before the
            suffix, as ``torch.hub.load_state_dict_from_url(check_hash=True)`` checks them.

    Returns:
        The path.
    """
    partial = f"{path}.tmp"
    if os.path.isfile(partial):  # of a killed process, with its permissions
        os.unlink(partial)
    try:
        with open(partial, "wb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
        write(partial)
        os.chmod(partial, mode)  # safetensors writes files that only their owner can read
        if with_hash:
            digest = hashlib.sha256(Path(partial).read_bytes()).hexdigest()[:8]
            path = str(Path(path).with_name(f"{Path(path).stem}-{digest}{Path(path).suffix}"))
        with open(partial, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
        _sync_folder(os.path.dirname(os.path.abspath(path)))
    finally:
        Path(partial).unlink(missing_ok=True)
    return path


def _sync_folder(folder):
    """Put the names in a folder on the disk, as far as the system can: without, a renaming may be lost with power."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # file systems that sync files only
            raise
    finally:
        os.close(descriptor)


def read_json(path):
    """Content of a JSON file; None where there is none, or it is damaged."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None


def write_json(path, content, indent=None):
    """Write a JSON file, complete or not at all; returns its path, a str."""
    text = json.dumps(content, indent=indent) + "\n"
    return write_file(str(path), lambda partial: Path(partial).write_text(text, encoding="utf-8"))
