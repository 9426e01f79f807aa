"""How much a step computes, and how many bytes it moves."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

aten = torch.ops.aten
# These allocate, or show a tensor in another shape, without touching its values; PyTorch calls none of them a view.
UNTOUCHED = {aten.empty, aten.empty_like, aten.empty_strided, aten.new_empty, aten.new_empty_strided, aten._unsafe_view}


def count_work(steps):
    """Run one iteration of ``steps``, uncompiled, and count.

    Returns:
        dict[str, int]: flop, of convolutions and matrix products, a multiplication and an addition being two; bytes, as
        by :class:`TrafficMode`.
    """
    steps.prepare()
    with TrafficMode() as traffic, FlopCounterMode(display=False) as flops:
        steps.step()
    return {"flop": flops.get_total_flops(), "bytes": traffic.bytes}


class TrafficMode(TorchDispatchMode):
    """Sums the sizes of what operators read and write while it is active, as ``bytes``.

    This is the traffic of a device whose caches keep nothing from one operator to the next, and whose operators read
    each operand once: fused operators stay below it, one that makes several passes goes beyond it. Views are free.
    """

    def __init__(self):
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if not func.is_view and func.overloadpacket not in UNTOUCHED:
            outputs = {argument.name for argument in func._schema.arguments if argument.is_out}
            read = [*args, *(value for name, value in kwargs.items() if name not in outputs)]
            self.bytes += _size(read) + _size(result) + _size(_changed_in_place(func, args, kwargs))
        return result


def _changed_in_place(func, args, kwargs):
    """Arguments that an operator writes to and does not return besides."""
    schema = func._schema
    if any(returned.alias_info is not None for returned in schema.returns):
        return []
    written = [i for i, argument in enumerate(schema.arguments) if argument.is_write]
    return [args[i] if i < len(args) else kwargs.get(schema.arguments[i].name) for i in written]


def _size(tree):
    """Bytes of the tensors in nested lists; of an expanded tensor those that there are."""
    tensors = [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]
    return sum(min(x.numel() * x.element_size(), x.untyped_storage().nbytes()) for x in tensors)
