"""Build optimisers and learning-rate schedules from a config; everything except LARS comes from detectron2."""

from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.projects.deeplab import build_lr_scheduler as build_d2_lr_scheduler
from detectron2.solver import LRMultiplier, get_default_optimizer_params
from detectron2.solver.build import maybe_add_gradient_clipping
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from .lars import LARS
from .schedule import warmup_cosine


def lars_groups(model: nn.Module, lr: float, factor_1d: float = 1.0) -> list[dict[str, Any]]:
    """Return the parameter groups of the official code: 1-D tensors without weight decay and adaptation.

    The learning rate of 1-D tensors is ``factor_1d * lr``. LARS makes the step size of the other tensors independent
    of the gradient norm. A learning rate for LARS at a small batch size is far too large for plain SGD on biases and
    norms.
    """
    trainable = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trainable if p.ndim > 1]},
        {"params": [p for p in trainable if p.ndim <= 1], "weight_decay": 0.0, "adapt": False, "lr": factor_1d * lr},
    ]


def build_optimizer(cfg: CfgNode, model: nn.Module) -> Optimizer:
    """Build the optimiser named by ``SOLVER.OPTIMIZER``, with detectron2's gradient clipping if configured.

    PyTorch's optimisers are fused. Otherwise the host would wait in each step for a GPU's check for NaN gradients, and
    an update on a CPU would take twice the time. Channels-last weights on a CPU are an exception: a fused optimiser
    copies them.
    """
    solver = cfg.SOLVER
    options: dict[str, Any] = {"lr": solver.BASE_LR, "weight_decay": solver.WEIGHT_DECAY}
    if solver.OPTIMIZER == "LARS":
        groups = lars_groups(model, solver.BASE_LR, solver.BIAS_LR_FACTOR)
        return maybe_add_gradient_clipping(cfg, LARS)(groups, momentum=solver.MOMENTUM, **options)
    groups = get_default_optimizer_params(
        model,
        weight_decay_norm=solver.WEIGHT_DECAY_NORM,
        bias_lr_factor=solver.BIAS_LR_FACTOR,
        weight_decay_bias=solver.WEIGHT_DECAY_BIAS,
        base_lr=solver.BASE_LR,
    )
    options["fused"] = all(p.is_cuda or p.is_contiguous() for p in model.parameters())
    if solver.OPTIMIZER == "AdamW":
        return maybe_add_gradient_clipping(cfg, torch.optim.AdamW)(groups, **options)
    options |= {"momentum": solver.MOMENTUM, "nesterov": solver.NESTEROV}
    return begin_momentum(maybe_add_gradient_clipping(cfg, torch.optim.SGD)(groups, **options))


def begin_momentum(sgd: torch.optim.SGD) -> torch.optim.SGD:
    """Set the momentum buffers of fused SGD to 0, in place; the first step is the same as without buffers.

    Fused SGD allocates its momentum buffers in the first step. If that step is skipped, the buffers stay uninitialised.
    """
    for group in sgd.param_groups:
        if group["fused"] and group["momentum"]:
            for parameter in group["params"]:
                sgd.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return sgd


def build_lr_scheduler(cfg: CfgNode, optimizer: Optimizer) -> LRScheduler:
    """Build the schedule named by ``SOLVER.LR_SCHEDULER_NAME``.

    The schedules are detectron2's, and ``WarmupPolyLR`` of its DeepLab project. ``WarmupCosineLR`` with
    ``RESCALE_INTERVAL`` is built here, because detectron2 v0.6 lacks this option.
    """
    solver = cfg.SOLVER
    if solver.LR_SCHEDULER_NAME == "WarmupCosineLR" and solver.RESCALE_INTERVAL:
        multiplier = warmup_cosine(
            solver.WARMUP_ITERS, solver.MAX_ITER, solver.WARMUP_FACTOR, solver.BASE_LR_END / solver.BASE_LR
        )
        return LRMultiplier(optimizer, multiplier, max_iter=solver.MAX_ITER)
    return build_d2_lr_scheduler(cfg, optimizer)
