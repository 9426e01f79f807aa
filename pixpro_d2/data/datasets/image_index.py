"""The list of a folder's images kept on disk: millions of names are listed once and read back within seconds."""

import logging
import os

import numpy as np

from ...utils.files import write_file
from ..io.file_list import FileList

logger = logging.getLogger(__name__)

VERSION = 2  # 1 had hidden files
SETTLED = 2.0  # seconds after which a folder that changes again certainly gets another time stamp


def index_file(root):
    """Where the index of the folder ``root`` lies: beside the folder, whose own time stamp it must not change."""
    parent, name = os.path.split(os.path.realpath(root))
    return os.path.join(parent, f".{name}.pixpro_images.npz")


def read_index(root):
    """The FileList that :func:`write_index` kept; None if there is none, it is damaged, or a folder has changed since.

    It is read into memory whole: a file mapped from a network mount would end the process when the mount goes away.
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
    except Exception as error:  # damaged bytes make the decoders raise almost anything
        logger.warning(f"The index {path} is damaged and made anew: {type(error).__name__}: {error}")
        return None
    return files if np.array_equal(time_stamps(folders), before) else None


def _checked(root, names, ends):
    starts = np.concatenate([[0], ends])
    if names.dtype != np.uint8 or ends.dtype != np.int64 or (np.diff(starts) < 0).any() or starts[-1] != len(names):
        raise ValueError("it is no list of names")
    return FileList(root, names, ends)


def time_stamps(folders):
    """When each of ``folders`` (FileList) last changed: (N,) int64, in nanoseconds; -1 for one that is gone."""
    return np.array([_time_stamp(folder["file_name"]) for folder in folders], np.int64)


def _time_stamp(folder):
    try:
        return os.stat(folder).st_mtime_ns
    except OSError:
        return -1


def write_index(files, folders, started):
    """Keep a list of files, if its folders let tell later whether they have changed, and if the place can be written.

    Args:
        files (FileList): the images.
        folders (FileList): all folders that they were looked for in.
        started (float): time before that, as of ``time.time``.
    """
    changed = time_stamps(folders)
    if changed.min() < 0 or changed.max() > (started - SETTLED) * 1e9:
        logger.info("The list of images is not kept yet, as their folder has changed only now.")
        return
    arrays = {
        "version": VERSION,
        "names": files.names,
        "ends": files.ends,
        "folders": folders.names,
        "folder_ends": folders.ends,
        "changed": changed,
    }

    def write(partial):
        with open(partial, "wb") as file:
            np.savez(file, **arrays)

    try:
        write_file(index_file(files.root), write)
    except OSError as error:  # a data set may lie where nobody writes
        logger.info(f"The list of images is not kept: {error}.")
