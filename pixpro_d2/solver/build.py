"""Optimisers and schedules by config; whatever is not ours is detectron2's."""

import torch
from detectron2.projects.deeplab import build_lr_scheduler as build_d2_lr_scheduler
from detectron2.solver import LRMultiplier, get_default_optimizer_params
from detectron2.solver.build import maybe_add_gradient_clipping

from .lars import LARS
from .schedule import warmup_cosine


def lars_groups(model, lr, factor_1d=1.0):
    """Parameter groups of the official code: 1-D tensors without weight decay and without adaptation.

    Their rate is ``factor_1d * lr``. LARS makes the size of a step independent of the gradient's, for the others
    only: a rate that suits these at a small batch is far too large for plain SGD on biases and norms.
    """
    trainable = [p for p in model.parameters() if p.requires_grad]
    return [
        {"params": [p for p in trainable if p.ndim > 1]},
        {"params": [p for p in trainable if p.ndim <= 1], "weight_decay": 0.0, "adapt": False, "lr": factor_1d * lr},
    ]


def build_optimizer(cfg, model):
    """The optimiser named by ``SOLVER.OPTIMIZER``, with detectron2's gradient clipping if configured.

    PyTorch's own are the fused ones on GPUs: in a step of others, the host would wait for whether a gradient is NaN.
    """
    solver = cfg.SOLVER
    options = {"lr": solver.BASE_LR, "weight_decay": solver.WEIGHT_DECAY}
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
    options["fused"] = next(model.parameters()).is_cuda
    if solver.OPTIMIZER == "AdamW":
        return maybe_add_gradient_clipping(cfg, torch.optim.AdamW)(groups, **options)
    options |= {"momentum": solver.MOMENTUM, "nesterov": solver.NESTEROV}
    return begin_momentum(maybe_add_gradient_clipping(cfg, torch.optim.SGD)(groups, **options))


def begin_momentum(sgd):
    """Give fused SGD its momentum from the start, in place: 0, from which the first step goes as without.

    It would make room for it in its first step, and where that is left out go on with what the memory held.
    """
    for group in sgd.param_groups:
        if group["fused"] and group["momentum"]:
            for parameter in group["params"]:
                sgd.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return sgd


def build_lr_scheduler(cfg, optimizer):
    """The schedule named by ``SOLVER.LR_SCHEDULER_NAME``: detectron2's, and ``WarmupPolyLR`` of its DeepLab project.

    ``WarmupCosineLR`` with ``RESCALE_INTERVAL`` is built here, because detectron2 v0.6 lacks that option.
    """
    solver = cfg.SOLVER
    if solver.LR_SCHEDULER_NAME == "WarmupCosineLR" and solver.RESCALE_INTERVAL:
        multiplier = warmup_cosine(
            solver.WARMUP_ITERS, solver.MAX_ITER, solver.WARMUP_FACTOR, solver.BASE_LR_END / solver.BASE_LR
        )
        return LRMultiplier(optimizer, multiplier, max_iter=solver.MAX_ITER)
    return build_d2_lr_scheduler(cfg, optimizer)
