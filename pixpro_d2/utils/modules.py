"""Small helpers for PyTorch modules."""

from contextlib import contextmanager

import torch


@contextmanager
def eval_mode(module):
    """Put a module into eval mode for a while; afterwards each of its modules is in the mode that it was in."""
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, training in modes.items():
            part.training = training


def device_of(network):
    """Device of a network's parameters, the CPU if it has none."""
    return next(network.parameters(), torch.empty(0)).device
