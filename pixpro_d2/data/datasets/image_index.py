"""Keep the list of a folder's images on disk: millions of names are listed once and read back within seconds."""

import logging
import os
from typing import Any

import numpy as np

from ...utils.files import write_file
from ..io.file_list import FileList

logger = logging.getLogger(__name__)

VERSION = 2  # version 1 had hidden files
MTIME_RESOLUTION_SECONDS = 2.0  # a folder that changes again after this time gets another time stamp


def index_file(root: str) -> str:
    """Return the path of the index of the folder ``root``, beside the folder: it must not change its time stamp."""
    parent, name = os.path.split(os.path.realpath(root))
    return os.path.join(parent, f".{name}.pixpro_images.npz")


def read_index(root: str) -> FileList | None:
    """Read the FileList that :func:`write_index` kept; return None if it is missing, damaged or out of date.

    The whole file is read into memory: a file mapped from a network mount would kill the process if the mount goes
    away.
    """
    path = index_file(root)
    if not os.path.isfile(path):
        return None
    try:
        with np.load(path, allow_pickle=False) as arrays:  # checks the sum of each array, too
            if arrays["version"] != VERSION:
                return None
            files = _checked(root, arrays["names"], arrays["ends"])
            folders = _checked(root, arrays["folders"], arrays["folder_ends"])
            before = arrays["changed"]
    except Exception as error:  # decoders may raise any exception for damaged bytes
        logger.warning(f"The index {path} is damaged and made again: {type(error).__name__}: {error}")
        return None
    return files if np.array_equal(time_stamps(folders), before) else None


def _checked(root: str, names: np.ndarray, ends: np.ndarray) -> FileList:
    starts = np.concatenate([[0], ends])
    if names.dtype != np.uint8 or ends.dtype != np.int64 or (np.diff(starts) < 0).any() or starts[-1] != len(names):
        raise ValueError("it is no list of names")
    return FileList(root, names, ends)


def time_stamps(folders: FileList) -> np.ndarray:
    """Return the time of the last change of each of ``folders``, (N,) int64 in nanoseconds; -1 for a missing folder."""
    return np.array([_time_stamp(folder["file_name"]) for folder in folders], np.int64)


def _time_stamp(folder: str) -> int:
    try:
        return os.stat(folder).st_mtime_ns
    except OSError:
        return -1


def write_index(files: FileList, folders: FileList, started: float) -> None:
    """Keep a list of files, if later changes of its folders will be detectable and the place is writable.

    Args:
        files: the images.
        folders: all folders that were searched.
        started: time before the search, from ``time.time``.
    """
    changed = time_stamps(folders)
    if changed.min() < 0 or changed.max() > (started - MTIME_RESOLUTION_SECONDS) * 1e9:
        logger.info("The list of images is not kept yet, because their folder has just changed.")
        return
    arrays: dict[str, Any] = {
        "version": VERSION,
        "names": files.names,
        "ends": files.ends,
        "folders": folders.names,
        "folder_ends": folders.ends,
        "changed": changed,
    }

    def write(partial: str) -> None:
        with open(partial, "wb") as file:
            np.savez(file, **arrays)

    try:
        write_file(index_file(files.root), write)
    except OSError as error:  # the folder of a data set may be read-only
        logger.info(f"The list of images is not kept: {error}.")
