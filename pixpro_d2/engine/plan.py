"""What a run would be, from its config alone: data, length and schedule."""

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from detectron2.utils import comm
from tabulate import tabulate

from ..config import is_pretraining
from ..modeling.momentum import momentum_at
from ..solver.build import build_lr_scheduler
from .configure import load_config

POINTS = 8  # of the schedule, besides the end of the warm-up


def describe_plan(cfg, given, num_images):
    """Lines about the run before anything is computed.

    Args:
        cfg (CfgNode): resolved.
        given (CfgNode): as the user has it.
        num_images (int): images, or runs of frames, of an epoch.
    """
    shown = cfg.clone()
    shown.defrost()
    shown.OUTPUT_DIR, shown.SEED = given.OUTPUT_DIR, given.SEED
    solver, processes = cfg.SOLVER, comm.get_world_size()
    parts = f", computed in {solver.ACCUMULATION_STEPS} parts" if solver.ACCUMULATION_STEPS > 1 else ""
    columns = ["iteration", "epoch", "learning rate", *(["momentum of the target"] if is_pretraining(cfg) else [])]
    return [
        "Keys that differ from the defaults:",
        *(f"  {line}" for line in changed_keys(shown, load_config("", []))),
        f"Training data: {num_images} images in an epoch of {', '.join(cfg.DATASETS.TRAIN)}",
        *(f"Test data: {len(DatasetCatalog.get(name))} images of {name}" for name in cfg.DATASETS.TEST),
        f"Length: {solver.MAX_ITER} iterations, {epoch_of(solver.MAX_ITER, num_images, cfg):.2f} epochs",
        f"Batch: {solver.IMS_PER_BATCH} images, {solver.IMS_PER_BATCH // processes} in each of {processes} processes"
        + parts,
        tabulate(schedule(cfg, num_images), columns, floatfmt=("", ".2f", ".6g", ".6f")),
    ]


def changed_keys(cfg, default, prefix=""):
    """``KEY VALUE`` for each key whose value is not the default."""
    for name, value in cfg.items():
        if isinstance(value, CfgNode):
            yield from changed_keys(value, default[name], f"{prefix}{name}.")
        elif value != default[name]:
            yield f"{prefix}{name} {value!r}"


def epoch_of(iteration, num_images, cfg):
    """Epochs that are done before an iteration. Those of pre-training leave out an incomplete last batch."""
    batch = cfg.SOLVER.IMS_PER_BATCH
    return iteration / (num_images // batch) if is_pretraining(cfg) else iteration * batch / num_images


def schedule(cfg, num_images):
    """Rows (iteration, epoch, learning rate), in pre-training also the target's momentum, from first to last."""
    last = cfg.SOLVER.MAX_ITER - 1
    # Any parameter will do; what the scheduler gives for an iteration does not depend on those before.
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=cfg.SOLVER.BASE_LR)
    scheduler = build_lr_scheduler(cfg, optimizer)
    spread = np.linspace(0, last, POINTS).round().astype(int).tolist()
    rows = []
    for iteration in sorted({*spread, min(cfg.SOLVER.WARMUP_ITERS, last)}):
        scheduler.last_epoch = iteration
        (rate,) = scheduler.get_lr()
        row = [iteration, epoch_of(iteration, num_images, cfg), rate]
        if is_pretraining(cfg):
            row.append(momentum_at(iteration + 1, last + 1, cfg.MODEL.PIXPRO.MOMENTUM))
        rows.append(row)
    return rows
