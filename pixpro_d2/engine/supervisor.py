"""Supervise the processes of a run: let them find each other, and end them together."""

import contextlib
import gc
import logging
import math
import multiprocessing.connection
import os
import signal
import time
from argparse import Namespace
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

import torch
import torch.distributed as dist
from detectron2.config import CfgNode
from detectron2.utils import comm
from torch.distributed.elastic.utils.distributed import get_free_port

from ..utils.errors import UsageError
from ..utils.signals import REQUEUE, StopSignals

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.5
GRACE_SECONDS = 5.0
REQUEUE_SECONDS = 60.0  # time for the other processes after one has saved and ended with REQUEUE


def supervise(
    processes: Mapping[int, BaseProcess], reports: Mapping[int, Connection], signals: StopSignals
) -> tuple[int, str]:
    """Wait until all processes have ended, or one has failed; then end the other processes within seconds.

    Stop signals are sent on to the processes, which save and end by themselves. A process that then hangs is killed.

    Args:
        processes: started processes, by rank.
        reports: connections on which each failed process sends a pair of the time and its error, by rank.
        signals: active stop signals of this process.

    Returns:
        Exit code of the run, and a message. The code is the code of the process that failed first, or REQUEUE if all
        were stopped. The message is "" unless a process failed.
    """
    handed_on = False
    deadline = math.inf
    open_reports = dict(reports)
    try:
        while not (messages := _receive(open_reports)) and not _any_failed(processes) and time.monotonic() < deadline:
            running = [process for process in processes.values() if process.exitcode is None]
            if not running:
                break
            # Time alone is no failure: a process may work alone for long, for example in an evaluation. The timeout of
            # the group limits how long processes wait for each other.
            sentinels = [process.sentinel for process in running]
            multiprocessing.connection.wait([*sentinels, *open_reports.values()], POLL_SECONDS)
            if signals.received and not handed_on:
                handed_on = True
                for process in running:
                    os.kill(process.pid, signal.Signals[signals.received])  # type: ignore[arg-type]  # it has started
            if any(process.exitcode == REQUEUE for process in processes.values()):
                deadline = min(deadline, time.monotonic() + REQUEUE_SECONDS)
    finally:
        codes = _end(processes)
    return _verdict(codes, messages | _receive(open_reports), signals.received)


def _receive(reports: dict[int, Connection]) -> dict[int, tuple[float, str]]:
    """Receive available reports, and remove their connections from ``reports``; a process sends one report.

    Returns:
        Times and messages, by rank.
    """
    messages = {}
    for rank in [rank for rank, report in reports.items() if report.poll()]:
        with contextlib.suppress(EOFError, OSError):  # the process ended without a report, or within it
            messages[rank] = reports.pop(rank).recv()
    return messages


def _any_failed(processes: Mapping[int, BaseProcess]) -> bool:
    return any(process.exitcode not in (None, 0, REQUEUE) for process in processes.values())


def _end(processes: Mapping[int, BaseProcess]) -> dict[int, int]:
    """Wait a grace period for processes to end, then kill the remaining processes.

    SIGTERM would not end them: it asks to save after the next reading of the losses, and no process gets there without
    the others.

    Returns:
        Exit codes of the processes that ended by themselves, by rank.
    """
    deadline = time.monotonic() + GRACE_SECONDS
    for process in processes.values():
        process.join(max(0.0, deadline - time.monotonic()))
    codes = {rank: process.exitcode for rank, process in processes.items() if process.exitcode is not None}
    for process in processes.values():
        if process.exitcode is None:
            process.kill()
    for process in processes.values():
        process.join(GRACE_SECONDS)
    return codes


def _verdict(
    codes: Mapping[int, int], messages: Mapping[int, tuple[float, str]], stopped_by: str | None
) -> tuple[int, str]:
    """Return the result of :func:`supervise` from exit codes and (time, message), by rank."""
    bad = {rank: code for rank, code in codes.items() if code and rank not in messages}
    stops = (REQUEUE, -signal.Signals[stopped_by]) if stopped_by else ()
    if bad and not messages and all(code in stops for code in bad.values()):
        return REQUEUE, ""
    # A killed process cannot report. The other processes then report that they have lost it. NCCL aborts a process that
    # has lost another process, so SIGABRT may be a consequence too.
    killed = {rank: code for rank, code in bad.items() if code < 0 and code != -signal.SIGABRT}
    if messages and not killed:
        _, message = min(messages.values())
        return 1, message
    crashed = {rank: code for rank, code in (killed or bad).items() if code != REQUEUE}
    if not crashed:
        return (REQUEUE if bad else 0), ""
    rank, code = next(iter(crashed.items()))
    if code > 0:
        return code, f"error: rank {rank} ended with exit code {code}."
    name = signal.Signals(-code).name
    hint = ""
    if name == "SIGKILL":
        hint = ", as the system does when memory runs out: lower DATALOADER.NUM_WORKERS or SOLVER.IMS_PER_BATCH"
    return 128 - code, f"error: rank {rank} was killed by {name}{hint}."  # the exit code that shells use


def in_torchrun() -> bool:
    """Return whether torchrun has started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


@dataclass(frozen=True)
class ProcessGroup:
    """Describe all processes of a run to the processes of this machine, before they join.

    Attributes:
        backend: ``nccl`` for GPUs, ``gloo`` for the CPU.
        url: meeting point of the processes, an ``init_method`` of PyTorch.
        timeout: a process that waits longer for the others fails.
        first_rank: rank of this machine's first process.
        local_size: number of processes on this machine, the same on each machine.
        world_size: number of processes on all machines.
        attempt: number of restarts by torchrun. Each attempt has its own keys in the store, because the store still
            holds the keys of earlier attempts.
    """

    backend: str
    url: str
    timeout: timedelta
    first_rank: int
    local_size: int
    world_size: int
    attempt: int = 0

    @classmethod
    def from_config(cls, cfg: CfgNode, args: Namespace) -> "ProcessGroup":
        """Return the group of a command.

        Args:
            cfg: config with device and timeout.
            args: arguments of :func:`pixpro_d2.launch_arguments.argument_parser`; inside torchrun, the environment
                of torchrun replaces them.

        Raises:
            UsageError: if this machine has fewer GPUs than processes.
        """
        minutes = cfg.DISTRIBUTED.TIMEOUT_MINUTES
        place = _place_in_torchrun() if in_torchrun() else _place_by_arguments(args)
        on_gpus = cfg.MODEL.DEVICE.startswith("cuda") and torch.cuda.is_available()
        if on_gpus and place["local_size"] > torch.cuda.device_count():
            raise UsageError(
                f"{place['local_size']} processes on this machine need a GPU each, but PyTorch sees "
                f"{torch.cuda.device_count()}: lower --num-gpus (torchrun: --nproc-per-node)."
            )
        return cls(backend="nccl" if on_gpus else "gloo", timeout=timedelta(minutes=minutes), **place)

    def join(self, local_rank: int) -> None:
        """Join the group, and build the group of this machine's processes that detectron2 expects."""
        if self.backend == "nccl":
            torch.cuda.set_device(local_rank)
        place: dict[str, Any] = {
            "rank": self.first_rank + local_rank,
            "world_size": self.world_size,
            "timeout": self.timeout,
        }
        store, _, _ = next(dist.rendezvous(self.url, **place))
        store.set_timeout(self.timeout)
        dist.init_process_group(self.backend, store=dist.PrefixStore(f"attempt {self.attempt}", store), **place)
        if hasattr(comm, "create_local_process_group"):  # detectron2 after v0.6
            comm.create_local_process_group(self.local_size)
        else:
            for first in range(0, self.world_size, self.local_size):
                group = dist.new_group(list(range(first, first + self.local_size)))
                if first == self.first_rank:
                    comm._LOCAL_PROCESS_GROUP = group
        comm.synchronize()


def leave() -> None:
    """Leave the group of this run, and end the threads of gloo for this group.

    The threads live as long as an object refers to a group, such as detectron2 or a finished trainer. A thread that is
    still running when the interpreter ends can abort the process. A finished run would then count as failed.
    """
    gc.collect()
    comm._LOCAL_PROCESS_GROUP = None
    for name in ("_get_global_gloo_group", "create_local_process_group"):  # the second in detectron2 after v0.6
        function: Any = getattr(comm, name, None)
        if hasattr(function, "cache_clear"):
            function.cache_clear()
    dist.destroy_process_group()


def _place_in_torchrun() -> dict[str, Any]:
    """Return the fields of a :class:`ProcessGroup` that the environment of torchrun holds."""
    rank, local_rank, local_size, world_size, restarts = (
        int(os.environ[name])
        for name in ("RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "WORLD_SIZE", "TORCHELASTIC_RESTART_COUNT")
    )
    return {
        "url": "env://",
        "first_rank": rank - local_rank,
        "local_size": local_size,
        "world_size": world_size,
        # Machines may count restarts differently. For several machines with restarts, docs/scaling.md therefore has
        # torchrun make a new store each time.
        "attempt": restarts if os.environ["TORCHELASTIC_USE_AGENT_STORE"] == "True" else 0,
    }


def _place_by_arguments(args: Namespace) -> dict[str, Any]:
    """Return the fields of a :class:`ProcessGroup` that the command line holds."""
    if args.num_machines > 1 and args.dist_url.startswith("file://"):
        logger.warning("file:// does not work reliably between machines; prefer --dist-url tcp://HOST:PORT.")
    return {
        "url": f"tcp://localhost:{get_free_port()}" if args.dist_url == "auto" else args.dist_url,
        "first_rank": args.machine_rank * args.num_gpus,
        "local_size": args.num_gpus,
        "world_size": args.num_machines * args.num_gpus,
    }
