"""Keep the list of the images of a folder or of archives on disk.

Millions of names are listed once and read back within seconds.
"""

import logging
import os
import stat
from typing import Any

import numpy as np

from ...utils.archives import folder_of
from ...utils.files import write_file
from ..io.file_list import FileList

logger = logging.getLogger(__name__)

# Version 1 had hidden files, version 2 no sizes of archives, version 3 no remark, versions to 4 fewer image formats.
VERSION = 5
MTIME_RESOLUTION_SECONDS = 2.0  # a folder that changes again after this time gets another time stamp


def index_file(root: str) -> str:
    """Return the path of the index of the folder ``root``, beside the folder: it must not change its time stamp."""
    parent, name = os.path.split(os.path.realpath(root))
    return os.path.join(parent, f".{name}.pixpro_images.npz")


def archive_index_file(pattern: str) -> str:
    """Return the path of the index of the archives that ``pattern`` names, in their folder."""
    folder = folder_of(pattern)
    name = os.path.relpath(pattern, folder or ".").replace(os.sep, "_")
    return os.path.join(folder, f".{name}.pixpro_images.npz")


def read_index(path: str, root: str) -> tuple[FileList, str] | None:
    """Read the FileList and the remark that :func:`write_index` kept.

    Return None if the file is missing, damaged or out of date. The whole file is read into memory: a file mapped from a
    network mount would kill the process if the mount goes away.

    Args:
        path: path of the index.
        root: folder of the files.
    """
    if not os.path.isfile(path):
        return None
    try:
        with np.load(path, allow_pickle=False) as arrays:  # checks the sum of each array, too
            if arrays["version"] != VERSION:
                return None
            files = _checked(root, arrays["names"], arrays["ends"])
            places = _checked(root, arrays["folders"], arrays["folder_ends"])
            before, remark = arrays["states"], str(arrays["remark"])
    except Exception as error:  # decoders may raise any exception for damaged bytes
        logger.warning(f"The index {path} is damaged and made again: {type(error).__name__}: {error}")
        return None
    return (files, remark) if np.array_equal(states(places), before) else None


def _checked(root: str, names: np.ndarray, ends: np.ndarray) -> FileList:
    starts = np.concatenate([[0], ends])
    if names.dtype != np.uint8 or ends.dtype != np.int64 or (np.diff(starts) < 0).any() or starts[-1] != len(names):
        raise ValueError("it is no list of names")
    return FileList(root, names, ends)


def states(places: FileList) -> np.ndarray:
    """Return the state of each of ``places``, (N, 2) int64; a change of the place changes its state.

    The columns are the time of the last change in nanoseconds, -1 for a missing place, and the size of a file in bytes.
    """
    return np.array([_state(place["file_name"]) for place in places], np.int64).reshape(-1, 2)


def _state(place: str) -> tuple[int, int]:
    try:
        found = os.stat(place)
    except OSError:
        return -1, 0
    # The size of a folder depends on the file system, to which its index may have been copied.
    return found.st_mtime_ns, found.st_size if stat.S_ISREG(found.st_mode) else 0


def write_index(path: str, files: FileList, places: FileList, started: float, remark: str = "") -> None:
    """Keep a list of files, if later changes of its places will be detectable and ``path`` is writable.

    Args:
        path: path of the index.
        files: the images.
        places: all folders or archives that were searched.
        started: time before the search, from ``time.time``.
        remark: sentence about the files, for each later run.
    """
    found = states(places)
    changed = found[:, 0]
    if changed.min() < 0 or changed.max() > (started - MTIME_RESOLUTION_SECONDS) * 1e9:
        logger.info("The list of images is not kept yet, because their folder or archive has just changed.")
        return
    arrays: dict[str, Any] = {
        "version": VERSION,
        "names": files.names,
        "ends": files.ends,
        "folders": places.names,
        "folder_ends": places.ends,
        "states": found,
        "remark": np.array(remark),
    }

    def write(partial: str) -> None:
        with open(partial, "wb") as file:
            np.savez(file, **arrays)

    try:
        write_file(path, write)
    except OSError as error:  # the folder of a data set may be read-only
        logger.info(f"The list of images is not kept: {error}.")
