"""A device that has shapes but no values, so that whatever has to wait for a value fails: PyTorch's ``meta``.

A GPU is not needed to see that nothing waits for one: reading a tensor back, or a shape that depends on values, is an
error on ``meta``. What it lets pass, :func:`watched` looks for.
"""

from contextlib import ContextDecorator, contextmanager

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

COPIES = (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)
FROM_HOST = (torch.tensor, torch.as_tensor, torch.asarray, torch.Tensor.new_tensor)
META = torch.device("meta")


@contextmanager
def watched():
    """Raise for what the host would wait for; yields an :class:`OneDevice`."""
    with NoNewValues(), OneDevice() as watch:
        yield watch


class NoNewValues(TorchFunctionMode):
    """Raises for a tensor on META that is made of numbers of the host, since they are copied there at once."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if func in FROM_HOST and result.device == META:
            data = args[func is torch.Tensor.new_tensor]
            assert isinstance(data, torch.Tensor), f"{func.__name__} waits"
        return result


class OneDevice(TorchDispatchMode):
    """Raises for an operator that mixes devices, and for a copy to another device that the host would wait for.

    A tensor of one number on the CPU is as good as the number.

    ``copied`` has the shapes of the tensors that were copied to another device without waiting.
    """

    def __init__(self):
        super().__init__()
        self.copied = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        tensors = [x for x in tree_leaves((args, kwargs, result)) if isinstance(x, torch.Tensor)]
        devices = sorted({x.device.type for x in tensors if x.dim() or x.device.type != "cpu" or func in COPIES})
        if len(devices) > 1:
            assert func in COPIES, f"{func} mixes {devices}"
            # copy_ has it as its third argument
            assert kwargs.get("non_blocking") or args[2:] == (True,), f"{func} from one of {devices} to the other waits"
            self.copied.append(tuple(tensors[-1].shape))
        return result


class NoAutocast(ContextDecorator):
    """In the place of ``torch.autocast``, which does not know ``meta``."""

    def __init__(self, *args, **kwargs):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass
