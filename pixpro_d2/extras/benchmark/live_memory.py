"""Following the memory of tensors on any device, without its allocator."""

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveMemory(TorchDispatchMode):
    """Counts the bytes of the tensors that operators make while it is active and that are still there.

    What was there before does not count, nor what an operator uses inside. ``timeline`` has how much there was after
    each operator; :meth:`alive` is what there is now. A loss holds its graph, and the graph what its backward pass
    needs.
    """

    def __init__(self):
        super().__init__()
        self.timeline = []
        self._made = {}  # bytes of storages, which are shared by views of one tensor
        self._given = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        self._given |= {reference for reference in _storages((args, kwargs)) if reference not in self._made}
        result = func(*args, **kwargs)
        for reference, size in _storages(result).items():
            if reference not in self._given:
                self._made[reference] = size
        self.timeline.append(self.alive())
        return result

    def parts(self, count, size):
        """Slices of range(``count``), of one image each, to be worked through one after the other.

        The timeline shows only the second, on top of what the first left behind, and both as if they had ``size``
        images: it is as long for any ``count`` above 1, and what a part needs inside does not grow with ``count``.
        """
        timeline, before, parts = self.timeline, self.alive(), []
        for i in range(count):
            self.timeline = []
            parts.append(self.timeline)
            yield slice(i, i + 1)
        self.timeline = timeline + [before + size * (alive - before) for alive in parts[1]]

    def alive(self):
        """Bytes that there are now."""
        self._made = {reference: size for reference, size in self._made.items() if not reference.expired()}
        return sum(self._made.values())


def _storages(tree):
    """Bytes of the storages of the tensors in nested containers."""
    storages = [leaf.untyped_storage() for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]
    return {StorageWeakRef(storage): storage.nbytes() for storage in storages}
