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
from array import array
from collections import Counter
from collections.abc import Callable, Iterator

import numpy as np

from ...utils.archives import compressed_tar
from ...utils.errors import UsageError

logger = logging.getLogger(__name__)

MAX_MEMBER_BYTES = 1 << 30  # larger members are no images, and could be made to fill the memory
_METHODS = {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA}
_METHODS |= {getattr(zipfile, "ZIP_ZSTANDARD", zipfile.ZIP_STORED)}  # from Python 3.14 on
_ENCRYPTED = 0x1  # flag of a member of a zip file
_COMPRESSIONS = (b"\x1f\x8b", b"BZh", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")  # first bytes of gzip, bzip2, xz, zstandard
_CHECKED_BYTES = 1 << 20  # read at a time behind the end mark of a tar file
_NOWHERE = -1  # offset of a link until it is resolved

_SYMBOLIC, _HARD, _SPARSE = "symbolic links", "hard links to files that the archive lacks", "sparse files"
_ADVICE = {_SYMBOLIC: "with tar -h", _HARD: "with tar --hard-dereference", _SPARSE: "without the option -S of tar"}


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
    _open_zip.cache_clear()  # another file may have taken the place of one that is open
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
    files = _TarFiles()
    with _open_tar(path) as archive:
        while (header := archive.next()) is not None:
            archive.members.clear()  # type: ignore[attr-defined]  # tarfile keeps all: gigabytes for millions
            if header.isreg() or header.islnk() or header.issym():
                files.add(header, wanted(header.name))
        _check_end(path, archive.offset)
    yield from files.members(path)


class _TarFiles:
    """Collect the files and links of a tar file.

    A later member of the same name replaces the earlier member, as when the archive is unpacked. The file of a hard
    link may be any earlier member, so the hash and the place of each member are kept: 24 bytes.
    """

    def __init__(self) -> None:
        self._hashes, self._offsets, self._sizes = array("q"), array("q"), array("q")  # of all files and links
        self._members: list[str] = []  # of the wanted files and links
        self._rows = array("q")  # place of each of ``_members`` in the three arrays
        self._unstored: dict[int, str] = {}  # kind of each of ``_members`` that has no content of its own
        self._targets: dict[int, str] = {}  # name of the file of each hard link

    def add(self, header: tarfile.TarInfo, is_wanted: bool) -> None:
        """Add a file or link."""
        is_stored = header.isreg() and not header.issparse()
        offset = header.offset_data if is_stored else _NOWHERE
        if is_wanted:
            if header.islnk():
                self._targets[len(self._members)] = header.linkname
            if not is_stored:
                kind = _HARD if header.islnk() else _SYMBOLIC if header.issym() else _SPARSE
                self._unstored[len(self._members)] = kind
            self._rows.append(len(self._hashes))
            self._members.append(_tar_member(offset, header.size, header.name))
        self._hashes.append(_hash(header.name))
        self._offsets.append(offset)
        self._sizes.append(header.size)

    def members(self, path: str) -> Iterator[str]:
        """Yield the last version of each wanted member of the tar file ``path``, in the order of the archive."""
        hashes = np.array(self._hashes, np.int64)
        if self._targets:
            self._resolve_hard_links(hashes)
        replaced = self._replaced(hashes[np.array(self._rows, np.int64)])
        skipped: Counter[str] = Counter()
        for i, member in enumerate(self._members):
            if i in replaced:
                continue
            if i in self._unstored:
                skipped[self._unstored[i]] += 1
            else:
                yield member
        for kind, count in skipped.items():
            logger.warning(f"Skipped {count} images of {path} that are {kind}: pack the archive again {_ADVICE[kind]}.")

    def _resolve_hard_links(self, hashes: np.ndarray) -> None:
        """Give each wanted hard link the place of its file: the last member of that name before the link.

        The hash alone decides, because the names of unwanted members are not kept. It has 64 bits.
        """
        order = np.argsort(hashes, kind="stable")
        ordered = hashes[order]
        for i, target in self._targets.items():
            row, wanted = self._rows[i], _hash(target)
            begin, end = np.searchsorted(ordered, wanted, "left"), np.searchsorted(ordered, wanted, "right")
            before = np.searchsorted(order[begin:end], row)
            found = order[begin + before - 1] if before else row
            if self._offsets[found] != _NOWHERE:
                self._offsets[row], self._sizes[row] = self._offsets[found], self._sizes[found]
                self._members[i] = _tar_member(self._offsets[row], self._sizes[row], _name(self._members[i]))
                del self._unstored[i]

    def _replaced(self, hashes: np.ndarray) -> set[int]:
        """Return the indices of the wanted members that a later member replaces; ``hashes`` are theirs."""
        ordered = np.sort(hashes)
        repeated = np.flatnonzero(np.isin(hashes, ordered[1:][ordered[1:] == ordered[:-1]])).tolist()
        last = {os.path.normpath(_name(self._members[i])): i for i in repeated}
        return set(repeated) - set(last.values())


def _hash(name: str) -> int:
    return hash(os.path.normpath(name))  # "./a.png" and "a.png" are one file


def _tar_member(offset: int, size: int, name: str) -> str:
    return f"{offset}+{size}/{name}"


def _name(tar_member: str) -> str:
    return tar_member.partition("/")[2]


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
    """Check that a tar file whose list stopped at ``offset`` has its end mark there; tarfile stops at damage too.

    Only zeros may follow. Another tar file may follow if several were joined by ``cat``; tarfile does not list it.
    """
    with open(path, "rb") as file:
        file.seek(offset)
        block = file.read(tarfile.BLOCKSIZE)
        if not block:
            logger.warning(f"{path} has no end mark: if it was cut off, images are missing.")
        elif block.strip(b"\0") or len(block) < tarfile.BLOCKSIZE:
            raise UsageError(f"{path} is damaged or cut off at byte {offset}: copy it again.")
        while block:
            if block.count(0) < len(block):
                raise UsageError(
                    f"{path} continues behind its end mark at byte {offset}, as several tar files in one do: keep them "
                    "as separate files, and name them by a pattern such as images:shards/{00..03}.tar."
                )
            block = file.read(_CHECKED_BYTES)


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
