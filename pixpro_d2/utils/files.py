"""Write files atomically; read and write JSON, and read YAML."""

import errno
import hashlib
import json
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml

from .errors import UsageError


def write_file(path: str, write: Callable[[str], object], with_hash: bool = False) -> str:
    """Write a file under a temporary name, and rename the file when all of it is on the disk.

    If the process is killed or the machine loses power, the former file stays, and perhaps ``path.tmp``. The file gets
    the permissions of any new file in its folder, whatever permissions ``write`` sets, if the mount allows a change.

    Args:
        path: path of the file.
        write: function that writes the file to the path that it receives.
        with_hash: put the first 8 hexadecimal digits of the contents' SHA-256 into the name, before the
            suffix. ``torch.hub.load_state_dict_from_url(check_hash=True)`` checks these digits.

    Returns:
        The path of the written file.
    """
    partial = f"{path}.tmp"
    if os.path.isfile(partial):  # a killed process left the file, with its permissions
        os.unlink(partial)
    try:
        with open(partial, "wb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
        write(partial)
        if stat.S_IMODE(os.stat(partial).st_mode) != mode:  # safetensors writes files that only their owner can read
            with suppress(PermissionError):  # some mounts, such as CIFS, refuse every chmod
                os.chmod(partial, mode)
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


def check_folder_of(path: str) -> None:
    """Check that the folder of a file to write exists.

    Raises:
        UsageError: if the folder is missing.
    """
    folder = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(folder):
        raise UsageError(f"There is no folder {folder}: make it first.")


def _sync_folder(folder: str) -> None:
    """Sync the names in a folder to the disk, where the system can do so.

    Without this sync, a power failure may undo a renaming.
    """
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


def read_json(path: str | Path) -> Any:
    """Return the content of a JSON file, or None if the file is missing or damaged."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None


def read_yaml(path: str | Path) -> dict[str, Any] | None:
    """Return the mapping in a YAML file, or None if the file is missing, damaged or holds no mapping.

    Raises:
        OSError: for a file that is there and cannot be read.
    """
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError, yaml.YAMLError):
        return None
    return content if isinstance(content, dict) else None


def write_json(path: str | Path, content: object, indent: int | None = None) -> str:
    """Write a JSON file, complete or not at all, and return its path."""
    text = json.dumps(content, indent=indent) + "\n"
    return write_file(str(path), lambda partial: Path(partial).write_text(text, encoding="utf-8"))


def _os_error(error: BaseException | None) -> OSError | None:
    """Return the OSError behind an error, or None.

    After a failed write, torch.save itself only reports that sizes do not match.
    """
    while error is not None and not isinstance(error, OSError):
        error = error.__context__
    return error


@contextmanager
def explain_disk_errors(explain: Callable[[OSError], str]) -> Iterator[None]:
    """Turn errors of the disk inside the context into a UsageError with the sentence of ``explain``."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        cause = _os_error(error)
        if cause is None:
            raise
        raise UsageError(explain(cause)) from error


def report_write_errors(path: str) -> AbstractContextManager[None]:
    """Turn errors of the disk inside the context, which writes ``path``, into a UsageError."""
    return explain_disk_errors(
        lambda cause: f"{path} cannot be written ({cause.strerror or cause}): make room there, or name another file."
    )
