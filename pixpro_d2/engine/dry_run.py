"""Describe and try a run before it starts: its data and schedule, then two iterations."""

import argparse
import os
import tempfile
import time
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from detectron2.utils import comm
from detectron2.utils.events import EventStorage
from tabulate import tabulate

from ..config import is_pretraining
from ..modeling.pretrain.momentum import momentum_at
from ..solver.build import build_lr_scheduler
from ..utils.errors import UsageError
from ..utils.memory import peak_memory
from .configure import command_config, load_config, setup
from .trainer import Trainer

POINTS = 8  # of the schedule, besides the end of the warm-up


def describe_plan(cfg: CfgNode, given: CfgNode, recipe: CfgNode, num_images: int) -> list[str]:
    """Lines about the run before anything is computed.

    Args:
        cfg (CfgNode): resolved.
        given (CfgNode): as the user has it.
        recipe (CfgNode): of the config file alone.
        num_images (int): images, or runs of frames, of an epoch.
    """
    shown = cfg.clone()
    shown.defrost()
    shown.OUTPUT_DIR, shown.SEED = given.OUTPUT_DIR, given.SEED
    solver, processes = cfg.SOLVER, comm.get_world_size()
    parts = f", computed in {solver.ACCUMULATION_STEPS} parts" if solver.ACCUMULATION_STEPS > 1 else ""
    columns = ["iteration", "epoch", "learning rate", *(["momentum of the target"] if is_pretraining(cfg) else [])]
    return [
        "Keys that differ from the config file:",
        *(f"  {line}" for line in changed_keys(shown, recipe)),
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


ITERATIONS = 2  # the first one also starts workers, and lets cuDNN choose algorithms


def dry_run(args):
    """Print what the run of ``args`` would be, and try it, in each process of the run; OUTPUT_DIR is not touched.

    Args:
        args (Namespace): of :func:`pixpro_d2.launch_arguments.argument_parser`; a checkpoint to resume from does not
            count.

    Raises:
        UsageError: for a mistake in the config, ``--eval-only``, or too little memory on the GPU.
    """
    if args.eval_only:
        raise UsageError("--dry-run is for training: leave out --eval-only.")
    given = command_config(args)
    with tempfile.TemporaryDirectory(prefix="dry_run-") as folder:
        opts = [*args.opts, "OUTPUT_DIR", folder]
        cfg = setup(argparse.Namespace(**{**vars(args), "opts": opts, "resume": False}))
        trial = cfg.clone()
        trial.defrost()
        trial.SOLVER.METRICS_PERIOD = 1  # to see the losses of both iterations; their times then end with the device's
        trial.WANDB.ENABLED = False
        trainer = Trainer(trial)
        trainer.resume_or_load(resume=False)
        if comm.is_main_process():
            recipe, count = load_config(args.config_file, []), len(trainer.data_loader.loader.dataset)
            print("\n".join(describe_plan(cfg, given, recipe, count)), flush=True)
        lines = describe_trial(cfg, try_iterations(trainer))
        if comm.is_main_process():
            print("\n".join(lines), flush=True)


@dataclass
class Trial:
    """What iterations took in one process.

    Attributes:
        seconds, data_seconds (float): of the last iteration, and how long it waited for data.
        losses (dict[str, float]): of the last iteration, the mean over the processes; in the main process.
        states, peak (int): bytes of weights and optimiser, and the most that were in use.
        checkpoint (int): bytes of a checkpoint; in the main process.
    """

    seconds: float
    data_seconds: float
    losses: dict
    states: int
    peak: int
    checkpoint: int


def try_iterations(trainer):
    """The first iterations of a trainer, with its hooks, without the end of a run.

    Returns:
        Trial: of this process.

    Raises:
        UsageError: when the GPU's memory does not suffice.
    """
    device = next(trainer.model.parameters()).device
    try:
        with EventStorage() as trainer.storage:
            trainer.before_train()
            for iteration in range(min(ITERATIONS, trainer.max_iter)):
                trainer.iter = iteration
                start = time.perf_counter()
                trainer.before_step()
                trainer.run_step()
                trainer.after_step()
                seconds = time.perf_counter() - start
            latest = {name: value for name, (value, _) in trainer.storage.latest().items()}
    except torch.cuda.OutOfMemoryError as error:
        raise UsageError(
            f"An iteration does not fit into the GPU's memory: lower SOLVER.IMS_PER_BATCH, raise "
            f"SOLVER.ACCUMULATION_STEPS, or set MODEL.PIXPRO.RECOMPUTE True ({error})"
        ) from error
    states = [*trainer.model.parameters(), *trainer.model.buffers()]
    states += [x for state in trainer.optimizer.state.values() for x in state.values() if isinstance(x, torch.Tensor)]
    peak = peak_memory(device)  # before a checkpoint is put together
    trainer.checkpointer.save("dry_run")
    file = os.path.join(trainer.checkpointer.save_dir, "dry_run.pth")
    return Trial(
        seconds,
        latest.get("data_time", 0.0),
        {name: value for name, value in latest.items() if "loss" in name},
        sum(x.nbytes for x in states),
        peak,
        os.path.getsize(file) if comm.is_main_process() else 0,
    )


def describe_trial(cfg, trial):
    """Lines about the iterations that were tried; all processes must call it."""
    trials = comm.all_gather(trial)
    seconds, states, peak = (max(getattr(x, name) for x in trials) for name in ("seconds", "states", "peak"))
    on_gpu = cfg.MODEL.DEVICE.startswith("cuda")
    where = "on the GPU" if on_gpu else "of the process, without the loader's workers"
    length = timedelta(seconds=round(seconds * cfg.SOLVER.MAX_ITER))
    losses = ", ".join(f"{name} {value:.4g}" for name, value in trial.losses.items())
    return [
        f"Tried {min(ITERATIONS, cfg.SOLVER.MAX_ITER)} iterations: {losses}",
        f"Memory of each process: {_mib(states)} of weights and optimiser, at most {_mib(peak)} {where}",
        f"Checkpoint: {_mib(trial.checkpoint)}",
        f"Speed: {seconds:.3g} s for an iteration, {trial.data_seconds:.3g} s of it waiting for data",
        f"The run would take about {length}, without evaluation and checkpoints.",
    ]


def _mib(size):
    return f"{size / 2**20:.1f} MiB"
