"""Build optimisers and learning-rate schedules from a config; everything except LARS comes from detectron2."""

from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.projects.deeplab import build_lr_scheduler as build_d2_lr_scheduler
from detectron2.solver import LRMultiplier, get_default_optimizer_params
from detectron2.solver.build import maybe_add_gradient_clipping
from detectron2.solver.lr_scheduler import WarmupParamScheduler
from fvcore.common.param_scheduler import CosineParamScheduler
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from .lars import LARS, match_parameters
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
    an update on a CPU would take twice the time. On a CPU, channels-last weights and half precision are exceptions: a
    fused optimiser copies the former, and fused SGD leaves the latter as they are.
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
    on_cpu = [p for p in model.parameters() if not p.is_cuda]
    options["fused"] = all(p.is_contiguous() and p.dtype == torch.float32 for p in on_cpu)
    if solver.OPTIMIZER == "AdamW":
        return ready_to_load(maybe_add_gradient_clipping(cfg, torch.optim.AdamW)(groups, **options))
    options |= {"momentum": solver.MOMENTUM, "nesterov": solver.NESTEROV}
    return ready_to_load(maybe_add_gradient_clipping(cfg, torch.optim.SGD)(groups, **options))


def ready_to_load(optimizer: Optimizer) -> Optimizer:
    """Prepare SGD or AdamW to load states of another device or memory format, and begin fused SGD's momentum.

    A state says whether its optimiser was fused, but the optimiser's own choice must hold. Fused SGD allocates its
    momentum in the first step. If this step is skipped, the momentum would stay uninitialised. So it is 0 from the
    start; the first step is the same.
    """
    fused = optimizer.defaults["fused"]

    def adopt_state(optimizer: Optimizer) -> None:
        for group in optimizer.param_groups:
            group["fused"] = fused
            for p in group["params"]:
                if fused and group.get("momentum") and optimizer.state[p].get("momentum_buffer") is None:
                    optimizer.state[p]["momentum_buffer"] = torch.zeros_like(p)
        match_parameters(optimizer)

    adopt_state(optimizer)
    optimizer.register_load_state_dict_post_hook(adopt_state)
    return optimizer


def build_lr_scheduler(cfg: CfgNode, optimizer: Optimizer) -> LRScheduler:
    """Build the schedule named by ``SOLVER.LR_SCHEDULER_NAME``.

    The schedules are detectron2's, and ``WarmupPolyLR`` of its DeepLab project. ``WarmupCosineLR`` is built here,
    because detectron2 v0.6 ignores ``BASE_LR_END`` and ``RESCALE_INTERVAL``.
    """
    solver = cfg.SOLVER
    if solver.LR_SCHEDULER_NAME != "WarmupCosineLR":
        return build_d2_lr_scheduler(cfg, optimizer)
    end, warmup = solver.BASE_LR_END / solver.BASE_LR, (solver.WARMUP_FACTOR, solver.WARMUP_METHOD)
    if solver.RESCALE_INTERVAL:
        multiplier = warmup_cosine(solver.WARMUP_ITERS, solver.MAX_ITER, warmup[0], end, warmup[1])
    else:
        share = min(solver.WARMUP_ITERS / solver.MAX_ITER, 1.0)
        multiplier = WarmupParamScheduler(CosineParamScheduler(1.0, end), warmup[0], share, warmup[1])
    return LRMultiplier(optimizer, multiplier, max_iter=solver.MAX_ITER)
