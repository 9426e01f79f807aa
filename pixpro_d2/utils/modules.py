"""Small helpers for PyTorch modules."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def eval_mode(module: nn.Module) -> Iterator[None]:
    """Put a module into eval mode inside the context; afterwards restore the mode of each submodule.

    The modules' own ``train`` restores them, because some merge their weights in eval mode, as adapters do.
    """
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, training in modes.items():  # a module comes before its submodules
            if part.training != training:
                part.train(training)
        for part, training in modes.items():  # some force the modes of their submodules
            part.training = training


def device_of(network: nn.Module) -> torch.device:
    """Return the device of a network's parameters, or the CPU if the network has no parameters."""
    return next(network.parameters(), torch.empty(0)).device
