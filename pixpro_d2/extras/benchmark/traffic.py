"""Count the arithmetic of a step, and the bytes that it moves."""

from collections.abc import Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from .timing import Steps

aten = torch.ops.aten
# These operators allocate or reshape tensors without touching values, but PyTorch does not mark them as views.
UNTOUCHED = {aten.empty, aten.empty_like, aten.empty_strided, aten.new_empty, aten.new_empty_strided, aten._unsafe_view}


def count_work(steps: Steps) -> dict[str, int]:
    """Run one iteration of ``steps``, uncompiled, and count its work.

    Returns:
        flop: operations of convolutions and matrix products, where a multiplication and an addition are two operations;
        bytes: see :class:`TrafficMode`.
    """
    steps.prepare()
    with TrafficMode() as traffic, FlopCounterMode(display=False) as flops:
        steps.step()
    return {"flop": flops.get_total_flops(), "bytes": traffic.bytes}


class TrafficMode(TorchDispatchMode):
    """Sum the bytes that operators read and write while the mode is active, as ``bytes``.

    The sum is the traffic of a device whose caches keep nothing between operators, and whose operators read each
    operand once. Fused operators need less traffic; an operator with several passes needs more. Views are free.
    """

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if not func.is_view and func.overloadpacket not in UNTOUCHED:
            outputs = {argument.name for argument in func._schema.arguments if argument.is_out}
            read = [*args, *(value for name, value in kwargs.items() if name not in outputs)]
            self.bytes += _size(read) + _size(result) + _size(_changed_in_place(func, args, kwargs))
        return result


def _changed_in_place(func: Any, args: tuple, kwargs: dict[str, Any]) -> list[Any]:
    """Return the arguments that an operator writes to and does not also return."""
    schema = func._schema
    if any(returned.alias_info is not None for returned in schema.returns):
        return []
    written = [i for i, argument in enumerate(schema.arguments) if argument.is_write]
    return [args[i] if i < len(args) else kwargs.get(schema.arguments[i].name) for i in written]


def _size(tree: Any) -> int:
    """Return the bytes of the tensors in nested lists; an expanded tensor counts only its existing bytes."""
    tensors = [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]
    return sum(min(x.numel() * x.element_size(), x.untyped_storage().nbytes()) for x in tensors)
