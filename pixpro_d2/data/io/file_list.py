"""Dataset dicts of millions of files in little more memory than their names, and data sets joined without a copy."""

import os
from array import array
from collections.abc import Sequence

import numpy as np
from detectron2.data.common import DatasetFromList
from torch.utils.data import ConcatDataset


class FileList(Sequence):
    """Read-only dataset dicts ``{"file_name", "image_id"}``, the latter being the index, of files below a folder.

    The names lie in one array of bytes, which forked workers share: nothing in it counts references, as Python's own
    objects do, whose memory is therefore copied as soon as somebody looks at them.

    Attributes:
        names (ndarray): uint8, all names below the folder, one after the other, as the file system has them.
        ends (ndarray): int64, where each of them ends.
    """

    def __init__(self, root, names, ends):
        """
        Args:
            root (str): the folder.
            names, ends (ndarray): see the attributes.
        """
        self.root = root
        self.names = names
        self.ends = ends

    @classmethod
    def from_names(cls, root, names):
        """List of the files that ``names`` (iterable of str, taken one at a time) tells, relative to ``root``."""
        content, ends = bytearray(), array("q")
        for name in names:
            content += os.fsencode(name)
            ends.append(len(content))
        return cls(root, np.frombuffer(content, np.uint8), np.frombuffer(ends, np.int64))

    @property
    def num_bytes(self):
        """Size in memory."""
        return self.names.nbytes + self.ends.nbytes

    def name(self, index):
        """Name (str) of a file below the folder, for 0 <= ``index`` < the number of files."""
        start = self.ends[index - 1] if index else 0
        return os.fsdecode(self.names[start : self.ends[index]].tobytes())

    def __len__(self):
        return len(self.ends)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return _sliced(self, index)
        place = range(len(self))[index]  # from the end where it is negative; an IndexError beyond
        return {"file_name": os.path.join(self.root, self.name(place)), "image_id": place}


class JoinedLists(ConcatDataset):
    """Sequences of dataset dicts one after the other, each as it is."""

    def __getitem__(self, index):
        return _sliced(self, index) if isinstance(index, slice) else super().__getitem__(index)


def _sliced(dicts, part):
    return [dicts[i] for i in range(*part.indices(len(dicts)))]


def joined(parts):
    """All dataset dicts of ``parts``, a list of sequences; a list where all of them are lists."""
    if len(parts) == 1:
        return parts[0]
    if all(isinstance(part, list) for part in parts):
        return [record for part in parts for record in part]
    return JoinedLists(parts)


def shareable(dicts):
    """The sequence ``dicts`` in a form that forked workers read without copying it, as a :class:`FileList` is."""
    if isinstance(dicts, FileList):
        return dicts
    if isinstance(dicts, JoinedLists):
        return JoinedLists([shareable(part) for part in dicts.datasets])
    return DatasetFromList(dicts, copy=False)
