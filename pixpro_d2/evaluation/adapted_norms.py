"""Batch norms with the statistics of the measured data, for a fair comparison with random weights."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..utils.modules import eval_mode


@contextmanager
def adapted_norms(model: nn.Module, forward: Callable[[], object]) -> Iterator[None]:
    """Give batch norms the statistics of the data within the context; afterwards restore all buffers and modes.

    The norms of random weights have never updated their running statistics. Without this context they would be measured
    with norms that do nothing. The statistics are the plain mean over all batches. A batch with a single value per
    channel is skipped, and a norm that sees only such batches keeps its statistics.

    Args:
        model: its frozen norms, and norms of other kinds, do not change.
        forward: runs the model on the batches of the data.
    """
    norms = [part for part in model.modules() if isinstance(part, _BatchNorm) and part.track_running_stats]
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    momenta = [norm.momentum for norm in norms]
    hooks = [norm.register_forward_pre_hook(_train_on_several_values) for norm in norms]
    try:
        try:
            with torch.no_grad(), eval_mode(model):
                for norm in norms:
                    norm.reset_running_stats()
                    norm.momentum = None  # the plain mean of all batches
                forward()
                _restore(model, buffers, [norm for norm in norms if not norm.num_batches_tracked])
        finally:
            for hook in hooks:
                hook.remove()
            for norm, momentum in zip(norms, momenta):
                norm.momentum = momentum
        yield
    finally:
        _restore(model, buffers, [model])


def _train_on_several_values(norm: nn.Module, inputs: tuple[Any, ...]) -> None:
    norm.train(inputs[0].numel() > inputs[0].shape[1])


@torch.no_grad()
def _restore(model: nn.Module, buffers: dict[str, Tensor], parts: Iterable[nn.Module]) -> None:
    """Copy ``buffers``, by name in ``model``, back into the modules ``parts``."""
    wanted = {id(buffer) for part in parts for buffer in part.buffers()}
    for name, buffer in model.named_buffers():
        if id(buffer) in wanted:
            buffer.copy_(buffers[name])
