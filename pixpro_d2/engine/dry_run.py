"""Trying a run before it is started: two iterations that leave nothing behind."""

import argparse
import os
import tempfile
import time
from dataclasses import dataclass
from datetime import timedelta

import torch
from detectron2.utils import comm
from detectron2.utils.events import EventStorage

from ..benchmark.memory import peak_memory
from ..errors import UsageError
from .configure import load_config, setup
from .plan import describe_plan
from .trainer import Trainer

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
    given = load_config(args.config_file, args.opts)
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
            print("\n".join(describe_plan(cfg, given, len(trainer.data_loader.loader.dataset))), flush=True)
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
