"""Trade time for memory: compute the stages of a backbone again in the backward pass."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from detectron2.modeling.backbone import RegNet, ResNet
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from ..utils.errors import UsageError
from .backbone import bottom_up
from .timm_backbone import TimmBackbone

# Nothing in the stages of these networks is random. Any other network may have a dropout.
_NOT_RANDOM = (ResNet, RegNet, TimmBackbone)


def recompute_stages(backbone: nn.Module) -> None:
    """Keep only the inputs of each stage of a backbone, and of its stem, for the backward pass.

    Losses and gradients do not change. The running statistics of norms do not change either: they count a batch once.

    Raises:
        UsageError: if the backbone has no stages.
    """
    below = bottom_up(backbone)
    stages = getattr(below, "stages", None) or [stage for stage, _ in getattr(below, "stages_and_names", [])]
    if not stages:
        raise UsageError(
            "MODEL.PIXPRO.RECOMPUTE needs a ResNet, a RegNet or a network of timm with stages; the backbone is a "
            f"{type(below).__name__}: set it False."
        )
    stem = [below.stem] if hasattr(below, "stem") else []
    for stage in (*stem, *stages):
        stage.forward = partial(_checkpointed, stage, stage.forward, type(below) not in _NOT_RANDOM)


def _checkpointed(
    stage: nn.Module, forward: Callable[..., Tensor], is_random: bool, *args: Any, **kwargs: Any
) -> Tensor:
    if not torch.is_grad_enabled():
        return forward(*args, **kwargs)
    contexts = partial(_contexts, stage)
    # Reading the state of the generators waits for the device.
    options: dict[str, Any] = {"preserve_rng_state": is_random, "context_fn": contexts}
    return checkpoint(forward, *args, use_reentrant=False, **options, **kwargs)


def _contexts(stage: nn.Module) -> tuple[AbstractContextManager, AbstractContextManager]:
    """Return the context managers that the first and the second computation run in."""
    return nullcontext(), _same_statistics(stage)


@contextmanager
def _same_statistics(stage: nn.Module) -> Iterator[None]:
    """Let batch norms use the statistics of the batch, without a change of their running statistics."""
    norms = [module for module in stage.modules() if isinstance(module, _BatchNorm)]
    before: list[tuple[float | None, Any]] = [(norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm, (_, counter) in zip(norms, before):
        norm.momentum, norm.num_batches_tracked = 0.0, counter.clone()
    try:
        yield
    finally:
        for norm, (momentum, counter) in zip(norms, before):
            norm.momentum, norm.num_batches_tracked = momentum, counter
