"""Check that all processes of a run list the same data."""

import hashlib
import os
from collections.abc import Sequence
from typing import Any

from detectron2.utils import comm

from ...utils.errors import UsageError
from .file_list import FileList, JoinedLists


def check_same_data(dicts: Sequence[dict[str, Any]]) -> None:
    """Check that all processes list the same DATASETS.TRAIN; all processes must call this function.

    The processes share each epoch by position. With other lists, some images would be drawn twice and others never,
    and the processes would end after different numbers of iterations.

    Args:
        dicts: detectron2 dataset dicts, or a :class:`.FileList`. Folders above the names may differ.

    Raises:
        UsageError: in all processes, if one of them has other data than rank 0.
    """
    if comm.get_world_size() == 1:
        return
    found = comm.all_gather((len(dicts), _digest(dicts)))
    for rank, (length, digest) in enumerate(found):
        if (length, digest) != found[0]:
            first = found[0][0]
            names = "" if length != first else " with other names or in another order"
            raise UsageError(
                f"DATASETS.TRAIN has {first} items for rank 0, and {length} items{names} for rank {rank}: complete the "
                "copies of the data, and sort the dicts of a data set of your own by file name."
            )


def _digest(dicts: Any) -> str:
    """Return a hash of the names in their order, without the folders that may differ between machines."""
    digest = hashlib.blake2b()
    if isinstance(dicts, FileList):
        digest.update(dicts.names.data)
        digest.update(dicts.ends.data)
    elif isinstance(dicts, JoinedLists):
        for part in dicts.datasets:
            digest.update(_digest(part).encode())
    else:
        for record in dicts:
            name = os.fsencode(os.path.basename(str(record.get("file_name", ""))))
            digest.update(name + b"\0%d\0" % record.get("num_frames", 0))
    return digest.hexdigest()
