"""Start the processes of a run."""

import os
import signal
import sys
from argparse import Namespace
from collections.abc import Callable
from multiprocessing import resource_tracker
from pathlib import Path
from typing import Any

import torch
import torch.multiprocessing as mp
from detectron2.config import CfgNode
from torch.distributed.elastic.multiprocessing.errors import record

from ...config_files import config_path
from ...launch_arguments import check_arguments
from ...utils.errors import UsageError, exit_once
from ...utils.signals import REQUEUE, StopSignals, requeue_when_stopped
from ..configuration.configure import command_config, resolve_device
from ..configuration.merging import read_values
from .failed_start import remove_failed_start
from .process_group import ProcessGroup, in_torchrun, leave
from .supervisor import Refusal, supervise

Main = Callable[[Namespace], Any]


def launch(main: Main, args: Namespace) -> None:
    """Run ``main(args)`` in ``args.num_gpus`` processes on each of ``args.num_machines`` machines.

    torchrun has already started the processes and ignores both counts. If torchrun restarts processes after a failure,
    they resume. Without torchrun, a process that fails ends all processes of its machine within seconds. Its error is
    printed last.

    The exit code is the code of the failed process, or REQUEUE if a stop signal ended the run. A mistake in arguments
    or config ends the launcher with its message, before any process starts.

    Args:
        main: function of a module; it ends with ``sys.exit(message)`` for errors that need no traceback.
        args: arguments of :func:`pixpro_d2.launch_arguments.argument_parser`.
    """
    try:
        check_arguments(args)
        _check_tasks(args)
        cfg = command_config(args)
        resolve_device(cfg)
        _check_gpus(cfg, args)
        group = ProcessGroup.from_config(cfg, args)
    except UsageError as error:
        exit_once(error)
    if in_torchrun():
        args.resume = args.resume or int(os.environ["TORCHELASTIC_RESTART_COUNT"]) > 0
        group.join(int(os.environ["LOCAL_RANK"]))
        _run_joined(record(main), args)  # leaves an exception where torchrun finds it for its summary
        return
    with requeue_when_stopped():
        if group.world_size == 1:
            main(args)
        else:
            folder = Path(cfg.OUTPUT_DIR)
            is_new = group.world_size == group.local_size and not folder.exists()  # other machines may write to it too
            code, message, refused = _run_processes(main, args, group)
            if is_new and refused:
                remove_failed_start(folder)
            if message:
                print(message, file=sys.stderr)
            sys.exit(code)


def _check_tasks(args: Namespace) -> None:
    """Raise a UsageError if srun has started more copies of this command than the run has machines."""
    tasks = os.environ.get("SLURM_STEP_NUM_TASKS", "")
    is_interactive = "SLURM_PTY_PORT" in os.environ  # a shell of `srun --pty`, which starts the command once
    if tasks.isdecimal() and int(tasks) > args.num_machines and not in_torchrun() and not is_interactive:
        raise UsageError(
            f"srun starts this command {tasks} times, but --num-machines is {args.num_machines}, and each copy starts "
            "all processes of its machine: use --ntasks-per-node=1, or unset SLURM_STEP_NUM_TASKS if each copy is "
            "another run, or if a notebook or worker has started this command once."
        )


def _check_gpus(cfg: CfgNode, args: Namespace) -> None:
    """Raise a UsageError for --num-gpus above 1 without a GPU, unless the command or the config chooses the CPU."""
    if args.num_gpus == 1 or cfg.MODEL.DEVICE != "cpu" or "MODEL.DEVICE" in args.opts[::2]:
        return
    if "DEVICE" not in read_values(config_path(args.config_file)).get("MODEL", {}):
        raise UsageError(
            f"--num-gpus is {args.num_gpus}, but PyTorch sees no GPU: add MODEL.DEVICE cpu for processes on the CPU."
        )


def _run_joined(main: Main, args: Namespace) -> None:
    """Run ``main(args)`` in a process that has joined its group, and leave the group unless there was an error."""
    code = 0
    try:
        with requeue_when_stopped():
            main(args)
    except SystemExit as end:
        if end.code != REQUEUE:
            raise
        code = REQUEUE  # keep the code alone: the exception refers to objects of the run, and they to the group
    leave()
    if code:
        sys.exit(code)


def _run_processes(main: Main, args: Namespace, group: ProcessGroup) -> tuple[int, str, bool]:
    """Start the processes of this machine and wait for them; return the result of :func:`supervise`."""
    _start_resource_tracker()
    with StopSignals() as signals:  # before the first process starts, so that no process misses a signal
        context = mp.start_processes(_run_process, (main, args, group), group.local_size, join=False)
        return supervise(context, group.first_rank, signals)


def _start_resource_tracker() -> None:
    """Start Python's resource tracker, a process that stop signals must not end."""
    former = signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # the tracker inherits this; it ignores SIGTERM itself
    resource_tracker.ensure_running()
    signal.signal(signal.SIGUSR1, former)


def _run_process(local_rank: int, main: Main, args: Namespace, group: ProcessGroup) -> None:
    """Run ``main(args)`` in a new process, whose exceptions PyTorch hands to the launcher."""
    if group.backend == "gloo":
        torch.set_num_threads(max(1, torch.get_num_threads() // group.local_size))
    group.join(local_rank)
    try:
        _run_joined(main, args)
    except SystemExit as end:
        if not isinstance(end.code, str):
            raise
        raise Refusal(end.code) from None
