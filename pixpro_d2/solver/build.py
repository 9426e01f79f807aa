"""Optimisers and schedules by config; whatever is not ours is detectron2's."""

import torch
from detectron2.projects.deeplab import build_lr_scheduler as build_d2_lr_scheduler
from detectron2.solver import LRMultiplier, get_default_optimizer_params
from detectron2.solver import build_optimizer as build_d2_optimizer
from detectron2.solver.build import maybe_add_gradient_clipping

from ..errors import check_choice
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
    """The optimiser named by ``SOLVER.OPTIMIZER``, with detectron2's gradient clipping if configured."""
    solver = cfg.SOLVER
    check_choice("SOLVER.OPTIMIZER", solver.OPTIMIZER, ("SGD", "LARS", "AdamW"))
    if solver.OPTIMIZER == "SGD":
        return build_d2_optimizer(cfg, model)
    if solver.OPTIMIZER == "LARS":
        return maybe_add_gradient_clipping(cfg, LARS)(
            lars_groups(model, solver.BASE_LR, solver.BIAS_LR_FACTOR),
            lr=solver.BASE_LR,
            momentum=solver.MOMENTUM,
            weight_decay=solver.WEIGHT_DECAY,
        )
    params = get_default_optimizer_params(
        model,
        weight_decay_norm=solver.WEIGHT_DECAY_NORM,
        bias_lr_factor=solver.BIAS_LR_FACTOR,
        weight_decay_bias=solver.WEIGHT_DECAY_BIAS,
        base_lr=solver.BASE_LR,
    )
    return maybe_add_gradient_clipping(cfg, torch.optim.AdamW)(
        params, lr=solver.BASE_LR, weight_decay=solver.WEIGHT_DECAY
    )


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
