"""``images:DIR``: all images below a folder, without annotations."""

import logging
import os
import time
from collections.abc import Iterator, Sized

from detectron2.data import DatasetCatalog
from detectron2.utils import comm

from ...utils.errors import UsageError
from ..io.file_list import FileList
from .image_index import read_index, write_index
from .paths import check_exists, is_hidden

logger = logging.getLogger(__name__)

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm", ".pgm")
MIN_INDEXED_IMAGES = 10_000  # smallest number of images for which an index is kept


def is_image(name: str) -> bool:
    """Return whether a file is an image by the extension of its ``name``, and not hidden."""
    return name.lower().endswith(EXTENSIONS) and not is_hidden(name)


def list_images(root: str) -> list[str]:
    """Return the sorted paths of all image files below ``root``; follow links, skip hidden files and folders.

    Raises:
        UsageError: if there is no image, or a folder cannot be read.
    """
    found = [os.path.join(root, folder, name) for folder, names in _walk(root) for name in names]
    _check_found(root, found)
    return found


def load_image_folder(name: str, root: str) -> FileList:
    """Load the dataset dicts of data set ``name``: all images below ``root`` in the order of :func:`list_images`.

    The dicts come from the folder's index if there is one. The number of images, the time and the memory are logged.

    Raises:
        UsageError: see :func:`list_images`.
    """
    begin = time.perf_counter()
    files = read_index(root)
    source = "read from its index" if files else "listed"
    files = files or _list_compact(root)
    seconds, megabytes = time.perf_counter() - begin, files.num_bytes / 1e6
    logger.info(f"Data set '{name}': {len(files)} names {source} in {seconds:.1f} s, {megabytes:.1f} MB.")
    return files


def _list_compact(root: str) -> FileList:
    started = time.time()
    folders: list[str] = []

    def names() -> Iterator[str]:
        for folder, names in _walk(root):
            folders.append(folder)
            yield from (os.path.join(folder, name) for name in names)

    files = FileList.from_names(root, names())
    _check_found(root, files)
    if len(files) >= MIN_INDEXED_IMAGES and comm.is_main_process():
        write_index(files, FileList.from_names(root, folders), started)
    return files


def _walk(root: str) -> Iterator[tuple[str, list[str]]]:
    """Yield (path below ``root``, sorted names of its images) of ``root`` itself, "", and of each folder in order."""
    if not os.path.isdir(root):
        return
    visited: set[str] = set()
    prefix = os.path.join(root, "")
    for folder, subfolders, files in os.walk(root, onerror=_on_unlisted, followlinks=True):
        real = os.path.realpath(folder)
        if real in visited:  # a link to a folder above would be followed forever
            subfolders.clear()
            continue
        visited.add(real)
        subfolders[:] = sorted(name for name in subfolders if not is_hidden(name))
        yield folder[len(prefix) :], sorted(filter(is_image, files))


def _on_unlisted(error: OSError) -> None:
    if isinstance(error, PermissionError):  # such as lost+found of a file system
        logger.warning(f"Skipped the folder {error.filename}: no permission to list it.")
    else:
        raise UsageError(f"The folder {error.filename} cannot be listed: {error.strerror}.") from error


def _check_found(root: str, found: Sized) -> None:
    if not found:
        raise UsageError(
            f"No image file ({', '.join(EXTENSIONS)}) below the folder {root}: name the folder of the images."
        )


def register_images(name: str, root: str) -> None:
    """Register the folder tree ``root`` as data set ``name``."""
    check_exists(name, root)
    DatasetCatalog.register(name, lambda: load_image_folder(name, root))
