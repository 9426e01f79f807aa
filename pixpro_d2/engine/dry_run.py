"""Describe a run before it starts, and try its first two iterations."""

import logging
import os
import tempfile
import time
from argparse import Namespace
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from detectron2.utils import comm
from detectron2.utils.events import EventStorage
from tabulate import tabulate
from torch.utils.data import DataLoader

from ..config import is_pretraining, with_values
from ..modeling.pretrain.momentum import momentum_at
from ..solver.build import build_lr_scheduler
from ..utils.errors import UsageError
from ..utils.machine import peak_memory
from ..utils.nested import flatten
from .configuration.configure import command_config, load_config, setup
from .trainer import Trainer

SCHEDULE_ROWS = 4  # rows of the schedule, besides the end of the warm-up


def describe_plan(cfg: CfgNode, given: CfgNode, recipe: CfgNode, num_images: int) -> list[str]:
    """Return lines about a run before anything is computed.

    Args:
        cfg: resolved config.
        given: config of the command, before it was resolved.
        recipe: config of the file alone.
        num_images: number of images, or runs of frames, in an epoch.
    """
    shown = with_values(cfg, {"OUTPUT_DIR": given.OUTPUT_DIR, "SEED": given.SEED})
    solver, processes = cfg.SOLVER, comm.get_world_size()
    parts = f", computed in {solver.ACCUMULATION_STEPS} parts" if solver.ACCUMULATION_STEPS > 1 else ""
    columns = ["iteration", "epoch", "learning rate", *(["momentum of the target"] if is_pretraining(cfg) else [])]
    return [
        "Keys that differ from the config file:",
        *(f"  {line}" for line in join_equal(changed_keys(shown, recipe))),
        f"Training data: {num_images} images in an epoch of {', '.join(cfg.DATASETS.TRAIN)}",
        *(f"Test data: {len(DatasetCatalog.get(name))} images of {name}" for name in cfg.DATASETS.TEST),
        f"Length: {solver.MAX_ITER} iterations, {epoch_of(solver.MAX_ITER, num_images, cfg):.2f} epochs",
        f"Batch: {solver.IMS_PER_BATCH} images, {solver.IMS_PER_BATCH // processes} in each of {processes} processes"
        + parts,
        tabulate(schedule(cfg, num_images), columns, floatfmt=("", ".2f", ".6g", ".6f")),
    ]


def changed_keys(cfg: CfgNode, default: CfgNode) -> list[str]:
    """Return ``KEY VALUE`` for each key whose value is not the default."""
    before = flatten(default)
    return [f"{key} {value!r}" for key, value in flatten(cfg).items() if value != before[key]]


def join_equal(lines: Iterable[str]) -> list[str]:
    """Join lines ``A.NAME VALUE`` and ``B.NAME VALUE`` to ``A.NAME, B.NAME VALUE``, such as one norm in all parts."""
    keys: dict[tuple[str, str], list[str]] = {}
    for line in lines:
        key, _, value = line.partition(" ")
        keys.setdefault((key.rpartition(".")[2], value), []).append(key)
    return [f"{', '.join(found)} {value}" for (_, value), found in keys.items()]


def epoch_of(iteration: int, num_images: int, cfg: CfgNode) -> float:
    """Return the number of epochs before an iteration. Epochs of pre-training skip an incomplete last batch."""
    batch = cfg.SOLVER.IMS_PER_BATCH
    return iteration / (num_images // batch) if is_pretraining(cfg) else iteration * batch / num_images


def schedule(cfg: CfgNode, num_images: int) -> list[list[float]]:
    """Return rows (iteration, epoch, learning rate), in pre-training with the target's momentum, from first to last."""
    last = cfg.SOLVER.MAX_ITER - 1
    # Any parameter will do. The learning rate of an iteration does not depend on earlier iterations.
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=cfg.SOLVER.BASE_LR)
    scheduler = build_lr_scheduler(cfg, optimizer)
    even = np.linspace(0, last, SCHEDULE_ROWS).round().astype(int).tolist()
    rows = []
    for iteration in sorted({*even, min(cfg.SOLVER.WARMUP_ITERS, last)}):
        scheduler.last_epoch = iteration
        (rate,) = scheduler.get_lr()
        row = [iteration, epoch_of(iteration, num_images, cfg), rate]
        if is_pretraining(cfg):
            row.append(momentum_at(iteration + 1, last + 1, cfg.MODEL.PIXPRO.MOMENTUM))
        rows.append(row)
    return rows


ITERATIONS = 2  # the first one also starts workers, and lets cuDNN choose algorithms


def dry_run(args: Namespace) -> None:
    """Describe the run of ``args`` and try it, in each process of the run, without writing to OUTPUT_DIR.

    Args:
        args: arguments of :func:`pixpro_d2.launch_arguments.argument_parser`; no checkpoint is resumed.

    Raises:
        UsageError: for a mistake in the config, ``--eval-only``, or too little memory on the GPU.
    """
    if args.eval_only:
        raise UsageError("--dry-run is for training: remove --eval-only.")
    given = command_config(args)
    with tempfile.TemporaryDirectory(prefix="dry_run-") as folder:
        opts = [*args.opts, "OUTPUT_DIR", folder]
        cfg = setup(Namespace(**{**vars(args), "opts": opts, "resume": False}))
        # Read all losses: a reading waits for the device, so the times are complete.
        trainer = Trainer(with_values(cfg, {"SOLVER.METRICS_PERIOD": 1, "WANDB.ENABLED": False}))
        trainer.resume_or_load(resume=False)
        if comm.is_main_process():
            recipe, count = load_config(args.config_file, []), len(trainer.data_loader.loader.dataset)
            print("\n".join(describe_plan(cfg, given, recipe, count)), flush=True)
        tried = try_iterations(trainer)
        batches = trainer._trainer.batches
        assert batches is not None  # after the first step
        reading = reading_seconds(trainer.data_loader.loader, batches)
        lines = describe_trial(cfg, tried, reading)
        if comm.is_main_process():
            print("\n".join(lines), flush=True)


@dataclass
class Trial:
    """Hold the measurements of the tried iterations in one process.

    Attributes:
        seconds: duration of the last iteration.
        data_seconds: time that the last iteration waited for data.
        losses: losses of the last iteration, means over the processes; in the main process.
        states: bytes of weights and optimiser.
        peak: most bytes in use at once.
        checkpoint: bytes of a checkpoint; 0 outside the main process.
    """

    seconds: float
    data_seconds: float
    losses: dict[str, float]
    states: int
    peak: int
    checkpoint: int


def try_iterations(trainer: Trainer) -> Trial:
    """Run the first iterations of a trainer, with its hooks, without the end of a run.

    Returns:
        The measurements in this process.

    Raises:
        UsageError: if an iteration does not fit into the GPU's memory.
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
        recompute = ", or set MODEL.PIXPRO.RECOMPUTE True" if is_pretraining(trainer.cfg) else ""
        raise UsageError(
            "An iteration does not fit into the GPU's memory: lower SOLVER.IMS_PER_BATCH, or raise "
            f"SOLVER.ACCUMULATION_STEPS{recompute} ({error})"
        ) from error
    states = [*trainer.model.parameters(), *trainer.model.buffers()]
    states += [x for state in trainer.optimizer.state.values() for x in state.values() if isinstance(x, torch.Tensor)]
    peak = peak_memory(device)  # a checkpoint would add to it
    logging.disable(logging.INFO)  # the line about a file that is deleted at once
    try:
        trainer.checkpointer.save("dry_run")
    finally:
        logging.disable(logging.NOTSET)
    file = os.path.join(trainer.checkpointer.save_dir, "dry_run.pth")
    return Trial(
        seconds,
        latest.get("data_time", 0.0),
        {name: value for name, value in latest.items() if "loss" in name},
        sum(x.nbytes for x in states),
        peak,
        os.path.getsize(file) if comm.is_main_process() else 0,
    )


def reading_seconds(loader: DataLoader, batches: Iterator[Any]) -> float:
    """Return the time that a loader takes for a batch, in seconds; 0 without workers.

    Workers load the first batches at the same time, so the second iteration of a run does not wait for slow data. These
    batches are drawn first.

    Args:
        loader: its workers run.
        batches: endless iterator over ``loader``.
    """
    ahead = loader.num_workers * (loader.prefetch_factor or 0)
    if not ahead:
        return 0.0
    for _ in range(ahead):
        next(batches)
    start = time.perf_counter()
    for _ in range(ahead):
        next(batches)
    return (time.perf_counter() - start) / ahead


def describe_trial(cfg: CfgNode, trial: Trial, reading: float) -> list[str]:
    """Return lines about the tried iterations; all processes must call this function.

    Args:
        cfg: config of the run.
        trial: measurements in this process.
        reading: result of :func:`reading_seconds` in this process.
    """
    trials = comm.all_gather((trial, reading))
    states, peak = (max(getattr(x, name) for x, _ in trials) for name in ("states", "peak"))
    seconds, waiting = max(speed(x, seconds) for x, seconds in trials)
    on_gpu = cfg.MODEL.DEVICE.startswith("cuda")
    where = "on the GPU" if on_gpu else "of the process, without the loader's workers"
    length = timedelta(seconds=round(seconds * cfg.SOLVER.MAX_ITER))
    losses = ", ".join(f"{name} {value:.4g}" for name, value in trial.losses.items())
    return [
        f"Tried {min(ITERATIONS, cfg.SOLVER.MAX_ITER)} iterations: {losses}",
        f"Memory of each process: {_mib(states)} of weights and optimiser, at most {_mib(peak)} {where}",
        f"Checkpoint: {_mib(trial.checkpoint)}",
        f"Speed: {seconds:.3g} s for an iteration, {waiting:.3g} s of it waiting for data",
        f"The run would take about {length}, without evaluation and checkpoints.",
    ]


def speed(trial: Trial, reading: float) -> tuple[float, float]:
    """Return the seconds of an iteration, and the seconds of it that wait for data that take ``reading`` a batch."""
    if not reading:  # no workers: the iteration itself has read its data
        return trial.seconds, trial.data_seconds
    computing = trial.seconds - trial.data_seconds
    return max(computing, reading), max(0.0, reading - computing)


def _mib(size: int) -> str:
    return f"{size / 2**20:.1f} MiB"
