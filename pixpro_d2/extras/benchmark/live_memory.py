"""Follow the memory of tensors on any device, without its allocator."""

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveMemory(TorchDispatchMode):
    """Count the bytes of the tensors that operators make while the mode is active, and that still exist.

    Earlier tensors and the internal memory of operators do not count. ``timeline`` holds the bytes after each operator;
    :meth:`alive` returns the current bytes. A loss holds its graph, and the graph holds the tensors for its backward
    pass.
    """

    def __init__(self) -> None:
        super().__init__()
        self.timeline: list[int] = []
        self._made: dict[StorageWeakRef, int] = {}  # bytes of storages; views of one tensor share a storage
        self._given: set[StorageWeakRef] = set()

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        self._given |= {reference for reference in _storages((args, kwargs)) if reference not in self._made}
        result = func(*args, **kwargs)
        for reference, size in _storages(result).items():
            if reference not in self._given:
                self._made[reference] = size
        self.timeline.append(self.alive())
        return result

    def parts(self, count: int, size: int) -> Iterator[slice]:
        """Yield slices of range(``count``), of one image each, to process one after the other.

        The timeline shows only the second slice, on top of the memory that the first slice left, and both slices as if
        they had ``size`` images. The timeline has the same length for any ``count`` above 1. The internal memory of a
        part does not grow with ``count``.
        """
        timeline, before = self.timeline, self.alive()
        parts: list[list[int]] = []
        for i in range(count):
            self.timeline = []
            parts.append(self.timeline)
            yield slice(i, i + 1)
        self.timeline = timeline + [before + size * (alive - before) for alive in parts[1]]

    def alive(self) -> int:
        """Return the current bytes."""
        self._made = {reference: size for reference, size in self._made.items() if not reference.expired()}
        return sum(self._made.values())


def _storages(tree: Any) -> dict[StorageWeakRef, int]:
    """Return the bytes of the storages of the tensors in nested containers."""
    storages = [leaf.untyped_storage() for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]
    return {StorageWeakRef(storage): storage.nbytes() for storage in storages}
