"""Store dataset dicts of millions of files in little memory, and join data sets without a copy."""

import bisect
import os
from array import array
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from detectron2.data.common import DatasetFromList
from torch.utils.data import ConcatDataset

from ...utils.archives import split_member


class FileList(Sequence):
    """Provide read-only dataset dicts ``{"file_name", "image_id"}`` of files below a folder; the id is the index.

    The names lie in one array of bytes, which forked workers share. Python objects count references, so the memory of
    a list of names would be copied as soon as a worker reads it.

    Attributes:
        names: uint8, all names below the folder, one after the other, in the encoding of the file system.
        ends: int64, the end of each name in ``names``.
    """

    def __init__(self, root: str, names: np.ndarray, ends: np.ndarray) -> None:
        """
        Args:
            root: the folder.
            names, ends: see the attributes.
        """
        self.root = root
        self.names = names
        self.ends = ends

    @classmethod
    def from_names(cls, root: str, names: Iterable[str]) -> "FileList":
        """Build the list of the files ``names``, relative to ``root``; the names are consumed one at a time."""
        content, ends = bytearray(), array("q")
        for name in names:
            content += os.fsencode(name)
            ends.append(len(content))
        return cls(root, np.frombuffer(content, np.uint8), np.frombuffer(ends, np.int64))

    @property
    def num_bytes(self) -> int:
        """Return the size in memory, in bytes."""
        return self.names.nbytes + self.ends.nbytes

    def name(self, index: int) -> str:
        """Return the name of a file below the folder, for 0 <= ``index`` < the number of files."""
        start = self.ends[index - 1] if index else 0
        return os.fsdecode(self.names[start : self.ends[index]].tobytes())

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return _sliced(self, index)
        place = range(len(self))[index]  # a negative index counts from the end; IndexError out of range
        return {"file_name": os.path.join(self.root, self.name(place)), "image_id": place}


class ShardList(FileList):
    """Provide the dataset dicts of files in several archives, archive after archive.

    Attributes:
        sizes: number of files in each archive.
    """

    def __init__(self, files: FileList, archives: Sequence[str]) -> None:
        """
        Args:
            files: files whose names begin with ``ARCHIVE@/``.
            archives: the archives in the order of the files.
        """
        super().__init__(files.root, files.names, files.ends)
        number = {archive: i for i, archive in enumerate(archives)}

        def archive_of(index: int) -> int:
            archive, _ = split_member(self.name(index)) or ("", "")
            return number[archive]

        ends = [bisect.bisect_right(range(len(files)), i, key=archive_of) for i in range(len(archives))]
        self.sizes = [end - start for start, end in zip([0, *ends], ends)]


class JoinedLists(ConcatDataset):
    """Join sequences of dataset dicts without a copy."""

    def __getitem__(self, index: int | slice) -> Any:
        return _sliced(self, index) if isinstance(index, slice) else super().__getitem__(index)


def _sliced(dicts: Any, part: slice) -> list[dict[str, Any]]:
    return [dicts[i] for i in range(*part.indices(len(dicts)))]


def joined(parts: Sequence[Any]) -> Any:
    """Join the sequences of dataset dicts in ``parts``; return a list if all sequences are lists."""
    if len(parts) == 1:
        return parts[0]
    if all(isinstance(part, list) for part in parts):
        return [record for part in parts for record in part]
    return JoinedLists(parts)


def to_shared_list(dicts: Any) -> Any:
    """Convert a sequence of dataset dicts to a form that forked workers read without a copy, as a :class:`FileList`."""
    if isinstance(dicts, FileList):
        return dicts
    if isinstance(dicts, JoinedLists):
        return JoinedLists([to_shared_list(part) for part in dicts.datasets])
    return DatasetFromList(dicts, copy=False)
