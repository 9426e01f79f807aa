"""``images:PATH``: all images below a folder, or in zip and tar files, without annotations."""

import logging
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sized
from concurrent.futures import ThreadPoolExecutor

from detectron2.data import DatasetCatalog
from detectron2.utils import comm

from ...utils.archives import archive_files, folder_of, is_archive, join_member
from ...utils.errors import UsageError
from ...utils.folders import is_hidden, walk
from ..io.archives import list_members
from ..io.file_list import FileList, ShardList
from .image_index import archive_index_file, index_file, read_index, write_index
from .paths import check_exists

logger = logging.getLogger(__name__)

# The same for every version of Pillow, because machines share the index of a folder. A file of a format that Pillow
# lacks, such as AVIF before version 11.3, is reported as unreadable.
EXTENSIONS = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm", ".pgm", ".pnm", ".tga",
    ".jp2", ".j2k", ".j2c", ".jpx", ".jpf", ".avif",
)  # fmt: skip
# Photographs of other formats: a folder that also has images of EXTENSIONS would lose them silently.
NOT_READ = (
    ".heic", ".heif", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".psd", ".dcm", ".jxl", ".exr",
    ".nii", ".nii.gz", ".svs", ".czi", ".nd2",
)  # fmt: skip
LISTING_THREADS = 8  # archives listed at the same time, because each header of a tar file waits for the storage
MIN_INDEXED_IMAGES = 10_000  # smallest number of images for which an index is kept


def is_image(name: str) -> bool:
    """Return whether a file is an image by the extension of its ``name``, and not hidden."""
    return name.lower().endswith(EXTENSIONS) and not is_hidden(name)


def list_images(root: str) -> list[str]:
    """Return the sorted paths of all image files below ``root``; follow links, skip hidden files and folders.

    Raises:
        UsageError: if there is no image, or a folder cannot be read.
    """
    others: Counter[str] = Counter()
    found = [os.path.join(root, folder, name) for folder, names in _walk(root, others) for name in names]
    remark = _not_read(others)
    _check_found(root, found, remark)
    _warn(root, remark)
    return found


def load_image_folder(name: str, root: str) -> FileList:
    """Load the dataset dicts of data set ``name``: all images below ``root`` in the order of :func:`list_images`.

    The dicts come from the folder's index if there is one. The number of images, the time and the memory are logged.

    Raises:
        UsageError: see :func:`list_images`.
    """
    return _load(name, index_file(root), root, lambda: _list_compact(root))


def load_archives(name: str, pattern: str) -> FileList:
    """Load the dataset dicts of data set ``name``: all images in the archives that ``pattern`` names, in their order.

    As in a folder, hidden members do not count. The dicts come from the archives' index if there is one.

    Raises:
        UsageError: if an archive is missing, damaged or of an unknown kind, or there is no image.
    """
    folder = folder_of(pattern)
    archives = [os.path.relpath(path, folder or ".") for path in archive_files(pattern)]
    files = _load(name, archive_index_file(pattern), folder, lambda: _list_archives(folder, archives, pattern))
    return files if len(archives) == 1 else ShardList(files, archives)


def _load(name: str, index: str, root: str, search: Callable[[], tuple[FileList, FileList | None, str]]) -> FileList:
    """Read a list of images from its index; otherwise search them, and keep the list if it is long and complete.

    ``search`` returns the images, the places that it searched, or None if it could not list a place, and a remark about
    the files, which is logged as a warning.
    """
    begin, started = time.perf_counter(), time.time()
    known = read_index(index, root)
    source = "read from its index" if known else "listed"
    if known:
        files, remark = known
    else:
        files, places, remark = search()
        if len(files) >= MIN_INDEXED_IMAGES and comm.is_main_process():
            if places is None:
                logger.info("The list of images is not kept, because a folder was skipped.")
            else:
                write_index(index, files, places, started, remark)
    _warn(root, remark)
    seconds, megabytes = time.perf_counter() - begin, files.num_bytes / 1e6
    logger.info(f"Data set '{name}': {len(files)} names {source} in {seconds:.1f} s, {megabytes:.1f} MB.")
    return files


def _list_compact(root: str) -> tuple[FileList, FileList | None, str]:
    folders: list[str] = []
    others: Counter[str] = Counter()
    skipped: list[str] = []

    def names() -> Iterator[str]:
        for folder, names in _walk(root, others, skipped.append):
            folders.append(folder)
            yield from (os.path.join(folder, name) for name in names)

    files = FileList.from_names(root, names())
    remark = _not_read(others)
    _check_found(root, files, remark)
    return files, None if skipped else FileList.from_names(root, folders), remark


def _list_archives(folder: str, archives: list[str], pattern: str) -> tuple[FileList, FileList, str]:
    def members_of(archive: str) -> list[str]:
        return list(list_members(os.path.join(folder, archive), _is_image_member))

    pool = ThreadPoolExecutor(LISTING_THREADS)
    try:
        listed = zip(archives, pool.map(members_of, archives))
        files = FileList.from_names(
            folder, (join_member(archive, member) for archive, members in listed for member in members)
        )
    finally:
        pool.shutdown(cancel_futures=True)  # after an error, the other archives need no list
    if not files:
        raise UsageError(f"No image file ({', '.join(EXTENSIONS)}) in {os.path.abspath(pattern)}.")
    return files, FileList.from_names(folder, archives), ""


def _is_image_member(name: str) -> bool:
    """Return whether a member of an archive is an image and not hidden, like :func:`is_image` for a path."""
    *folders, base = [part for part in name.split("/") if part not in (".", "..")] or [""]
    return is_image(base) and not any(map(is_hidden, folders))


def _walk(
    root: str, others: Counter[str], on_skipped: Callable[[str], None] = lambda folder: None
) -> Iterator[tuple[str, list[str]]]:
    """Yield (path below ``root``, sorted names of its images) of ``root`` itself, "", and of each folder in order.

    ``others`` counts the suffixes of photographs that are not read. ``on_skipped`` receives the path of each folder
    that may not be listed.
    """
    if not os.path.isdir(root):
        return
    prefix = os.path.join(root, "")

    def on_denied(folder: str) -> None:
        logger.warning(f"Skipped the folder {folder}: no permission to list it.")
        if os.path.basename(folder) != "lost+found":  # of each disk; it has no images for anybody
            on_skipped(folder)

    for folder, files in walk(root, on_denied):
        unread = (name.lower() for name in files if name.lower().endswith(NOT_READ) and not is_hidden(name))
        others.update(next(suffix for suffix in NOT_READ if name.endswith(suffix)) for name in unread)
        yield folder[len(prefix) :], sorted(filter(is_image, files))


def _not_read(others: Counter[str]) -> str:
    """Return a remark on the files that are not read, which stays true if their folder is renamed; "" without any."""
    if not others:
        return ""
    return f"{others.total()} files ({', '.join(sorted(others))}) are not read: convert them to JPEG or PNG"


def _warn(root: str, remark: str) -> None:
    if remark:
        logger.warning(f"Below {root}, {remark}.")


def _check_found(root: str, found: Sized, remark: str) -> None:
    if not found:
        advice = remark or "name the folder of the images"
        raise UsageError(f"No image file ({', '.join(EXTENSIONS)}) below the folder {root}: {advice}.")


def register_images(name: str, root: str) -> None:
    """Register the folder tree ``root``, or the archives that ``root`` names, as data set ``name``."""
    if is_archive(root):
        archive_files(root)
        DatasetCatalog.register(name, lambda: load_archives(name, root))
        return
    check_exists(name, root)
    DatasetCatalog.register(name, lambda: load_image_folder(name, root))
