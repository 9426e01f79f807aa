"""``images:DIR``: all images below a folder, without annotations."""

import logging
import os
import time

from detectron2.data import DatasetCatalog
from detectron2.utils import comm

from ...utils.errors import UsageError
from ..io.file_list import FileList
from .image_index import read_index, write_index
from .paths import check_exists, is_hidden

logger = logging.getLogger(__name__)

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm", ".pgm")
KEPT_FROM = 10_000  # images that are worth an index


def is_image(name):
    """Return whether a file's ``name`` is that of an image, by its extension, and not hidden."""
    return name.lower().endswith(EXTENSIONS) and not is_hidden(name)


def list_images(root):
    """Paths of all image files below ``root``, sorted, links followed; hidden files and folders are skipped.

    Raises:
        UsageError: when there are none, or a folder cannot be read.
    """
    found = [os.path.join(root, folder, name) for folder, names in _walk(root) for name in names]
    _check_found(root, found)
    return found


def load_image_folder(name, root):
    """Dataset dicts (FileList) of data set ``name``, all images below ``root`` in the order of :func:`list_images`.

    They are taken from the folder's index where there is one; the log tells their number, the time and the memory.

    Raises:
        UsageError: as of :func:`list_images`.
    """
    begin = time.perf_counter()
    files = read_index(root)
    source = "read from its index" if files else "listed"
    files = files or _list_compact(root)
    seconds, megabytes = time.perf_counter() - begin, files.num_bytes / 1e6
    logger.info(f"Data set '{name}': {len(files)} names {source} in {seconds:.1f} s, {megabytes:.1f} MB.")
    return files


def _list_compact(root):
    started, folders = time.time(), []

    def names():
        for folder, names in _walk(root):
            folders.append(folder)
            yield from (os.path.join(folder, name) for name in names)

    files = FileList.from_names(root, names())
    _check_found(root, files)
    if len(files) >= KEPT_FROM and comm.is_main_process():
        write_index(files, FileList.from_names(root, folders), started)
    return files


def _walk(root):
    """(path below ``root``, sorted names of its images) of ``root`` itself, "", and of each folder below in order."""
    if not os.path.isdir(root):
        return
    visited, prefix = set(), os.path.join(root, "")
    for folder, subfolders, files in os.walk(root, onerror=_on_unlisted, followlinks=True):
        real = os.path.realpath(folder)
        if real in visited:  # a link back to a folder above would have no end
            subfolders.clear()
            continue
        visited.add(real)
        subfolders[:] = sorted(name for name in subfolders if not is_hidden(name))
        yield folder[len(prefix) :], sorted(filter(is_image, files))


def _on_unlisted(error):
    if isinstance(error, PermissionError):  # as lost+found of a file system
        logger.warning(f"Left out what is in {error.filename}, which may not be listed.")
    else:
        raise UsageError(f"The folder {error.filename} cannot be listed: {error.strerror}.") from error


def _check_found(root, found):
    if not found:
        raise UsageError(f"No image file ({', '.join(EXTENSIONS)}) below the folder {root}.")


def register_images(name, root):
    """Register the folder tree ``root`` as data set ``name``."""
    check_exists(name, root)
    DatasetCatalog.register(name, lambda: load_image_folder(name, root))
