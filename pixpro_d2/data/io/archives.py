"""List and read the members of zip and tar files; no member is unpacked to the disk.

A member of a zip file is addressed by its name, and a member of a tar file by ``OFFSET+SIZE/NAME``: its place in bytes
and its name. Tar files have no directory, and with the place a worker needs no list of all members.
"""

import contextlib
import functools
import logging
import os
import tarfile
import zipfile
from collections.abc import Callable, Iterator

from ...utils.archives import compressed_tar
from ...utils.errors import UsageError

logger = logging.getLogger(__name__)

MAX_MEMBER_BYTES = 1 << 30  # larger members are no images, and could be made to fill the memory
_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA}
_METHODS |= {getattr(zipfile, "ZIP_ZSTANDARD", zipfile.ZIP_STORED)}  # from Python 3.14 on
_ENCRYPTED = 0x1  # flag of a member of a zip file
_COMPRESSIONS = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")  # first bytes of gzip, bzip2, xz, zstandard


def list_members(archive: str, wanted: Callable[[str], bool]) -> Iterator[str]:
    """Yield the members of a zip or tar file whose names are ``wanted``, in the order of the archive.

    Raises:
        UsageError: if the archive is damaged, cut off, compressed as a whole, encrypted, or cannot be read.
    """
    listed = _list_zip if archive.lower().endswith(".zip") else _list_tar
    try:
        yield from listed(archive, wanted)
    except UsageError:
        raise
    except OSError as error:
        raise UsageError(f"{archive} cannot be read ({error.strerror or error}).") from error
    except Exception as error:  # the readers of damaged archives may raise any exception
        raise UsageError(f"{archive} is damaged ({error}): copy it again.") from error


def read_member(archive: str, member: str) -> bytes:
    """Read a member of a zip or tar file.

    Raises:
        KeyError, ValueError, OSError, zipfile.BadZipFile: if the member is missing, damaged or too large, or the
            archive cannot be read.
    """
    return (_read_zip if archive.lower().endswith(".zip") else _read_tar)(archive, member)


def _list_zip(path: str, wanted: Callable[[str], bool]) -> Iterator[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            members = {member.filename: member for member in archive.infolist()}  # the last of several of one name
    except zipfile.BadZipFile as error:
        raise UsageError(f"{path} is no zip file, or it is cut off ({error}): copy it again.") from error
    for name, member in members.items():
        if not wanted(name):
            continue
        if member.flag_bits & _ENCRYPTED:
            raise UsageError(f"{path} is encrypted: unpack it with its password, and name the folder of its images.")
        if member.compress_type not in _METHODS:
            raise UsageError(
                f"{path} has members of compression method {member.compress_type}, which Python cannot read: unpack "
                "it, and name the folder of its images."
            )
        yield name


def _list_tar(path: str, wanted: Callable[[str], bool]) -> Iterator[str]:
    with _open_tar(path) as archive:
        while (member := archive.next()) is not None:
            archive.members.clear()  # type: ignore[attr-defined]  # tarfile keeps all: gigabytes for millions
            if member.isreg() and not member.issparse() and wanted(member.name):
                yield f"{member.offset_data}+{member.size}/{member.name}"
        _check_end(path, archive.offset)


@contextlib.contextmanager
def _open_tar(path: str) -> Iterator[tarfile.TarFile]:
    try:
        with tarfile.open(path, "r:") as archive:
            yield archive
    except tarfile.ReadError as error:
        with open(path, "rb") as file:
            if file.read(8).startswith(_COMPRESSIONS):
                raise compressed_tar(path) from error
        raise UsageError(f"{path} is no tar file, or it is cut off ({error}): copy it again.") from error


def _check_end(path: str, offset: int) -> None:
    """Check that a tar file whose list stopped at ``offset`` has its end mark there; tarfile stops at damage too."""
    with open(path, "rb") as file:
        file.seek(offset)
        block = file.read(tarfile.BLOCKSIZE)
    if not block:
        logger.warning(f"{path} has no end mark: if it was cut off, images are missing.")
    elif block.strip(b"\0") or len(block) < tarfile.BLOCKSIZE:
        raise UsageError(f"{path} is damaged or cut off at byte {offset}: copy it again.")


@functools.lru_cache(maxsize=64)
def _open_zip(path: str, process: int) -> zipfile.ZipFile:
    """Open an archive; ``process`` is part of the cache key, because forked workers must not share a file position."""
    return zipfile.ZipFile(path)


def _read_zip(path: str, member: str) -> bytes:
    try:
        archive = _open_zip(path, os.getpid())
        _check_size(archive.getinfo(member).file_size)
        return archive.read(member)
    except OSError:  # a handle is invalid after its mount is gone
        _open_zip.cache_clear()
        raise


def _read_tar(path: str, member: str) -> bytes:
    offset, _, size = member.partition("/")[0].partition("+")
    _check_size(int(size))
    with open(path, "rb") as file:
        file.seek(int(offset))
        content = file.read(int(size))
    if len(content) < int(size):
        raise ValueError("the archive ends before this member does")
    return content


def _check_size(size: int) -> None:
    if size > MAX_MEMBER_BYTES:
        raise ValueError(f"{size} bytes, more than the {MAX_MEMBER_BYTES} that are read from an archive")
