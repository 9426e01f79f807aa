"""Walk through folders as all commands do: links are followed, hidden names are skipped."""

import os
from collections.abc import Callable, Iterator

from .errors import UsageError

COPIES = ("__MACOSX", "@eaDir")  # folders that macOS adds to zip files, and Synology's storage to every folder


def is_hidden(name: str) -> bool:
    """Return whether a file or folder is hidden, such as ``._photo.jpg``, which macOS writes beside ``photo.jpg``."""
    return name.startswith(".") or name in COPIES


def walk(
    root: str, on_denied: Callable[[str], None], is_followed: Callable[[str], bool] = lambda folder: True
) -> Iterator[tuple[str, list[str]]]:
    """Yield (path, names of its files, hidden ones too) of ``root`` and of each folder below it, in sorted order.

    Args:
        root: existing folder.
        on_denied: receives the path of each folder that may not be listed.
        is_followed: whether to enter a folder, by its path.

    Raises:
        UsageError: if a folder cannot be listed for another reason.
    """
    visited: set[str] = set()

    def on_error(error: OSError) -> None:
        if not isinstance(error, PermissionError):
            raise UsageError(f"The folder {error.filename} cannot be listed: {error.strerror}.") from error
        on_denied(error.filename)

    for folder, subfolders, files in os.walk(root, onerror=on_error, followlinks=True):
        real = os.path.realpath(folder)
        if real in visited:  # a link to a folder above would be followed forever
            subfolders.clear()
            continue
        visited.add(real)
        subfolders[:] = sorted(
            name for name in subfolders if not is_hidden(name) and is_followed(os.path.join(folder, name))
        )
        yield folder, files
