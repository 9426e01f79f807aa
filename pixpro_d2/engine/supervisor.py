"""The processes of a run: how they find each other, and a parent that ends them together."""

import contextlib
import gc
import logging
import math
import multiprocessing.connection
import os
import signal
import time
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from detectron2.utils import comm
from torch.distributed.elastic.utils.distributed import get_free_port

from ..utils.errors import UsageError
from ..utils.signals import REQUEUE

logger = logging.getLogger(__name__)

POLL_SECONDS = 0.5
GRACE_SECONDS = 5.0
REQUEUE_SECONDS = 60.0  # for the others when one has ended with REQUEUE, which it does when all is saved


def supervise(processes, reports, signals):
    """Wait until all processes have ended, or one has failed, which ends the others within seconds.

    Stop signals are handed on to the processes, which end by themselves when they have saved. One that then hangs as it
    ends is killed.

    Args:
        processes (dict[int, multiprocessing.Process]): started, by rank.
        reports (dict[int, multiprocessing.connection.Connection]): where each process that fails sends a pair of the
            time and its error.
        signals (StopSignals): active, of this process.

    Returns:
        tuple[int, str]: exit code of the run, that of the process that failed first, or REQUEUE if all were stopped;
        and what happened, "" if nothing is wrong.
    """
    handed_on = False
    deadline = math.inf
    reports = dict(reports)
    try:
        while not (messages := _receive(reports)) and not _any_failed(processes) and time.monotonic() < deadline:
            running = [process for process in processes.values() if process.exitcode is None]
            if not running:
                break
            # A process waits for another no longer than the group's timeout, and may work alone for longer, as when
            # evaluating: time alone is no failure.
            sentinels = [process.sentinel for process in running]
            multiprocessing.connection.wait([*sentinels, *reports.values()], POLL_SECONDS)
            if signals.received and not handed_on:
                handed_on = True
                for process in running:
                    os.kill(process.pid, signal.Signals[signals.received])
            if any(process.exitcode == REQUEUE for process in processes.values()):
                deadline = min(deadline, time.monotonic() + REQUEUE_SECONDS)
    finally:
        codes = _end(processes)
    return _verdict(codes, messages | _receive(reports), signals.received)


def _receive(reports):
    """Take what has come out of ``reports``; a process has one report.

    Returns:
        dict[int, tuple[float, str]]: times and messages by rank.
    """
    messages = {}
    for rank in [rank for rank, report in reports.items() if report.poll()]:
        with contextlib.suppress(EOFError, OSError):  # closed, perhaps in the middle of a report
            messages[rank] = reports.pop(rank).recv()
    return messages


def _any_failed(processes):
    return any(process.exitcode not in (None, 0, REQUEUE) for process in processes.values())


def _end(processes):
    """Give processes a grace period to end, kill those that do not.

    SIGTERM would be no use: it asks to save after the next reading of the losses, to which none gets without the
    others.

    Returns:
        dict[int, int]: exit codes of those that ended by themselves, by rank.
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


def _verdict(codes, messages, stopped_by):
    """What :func:`supervise` returns, from exit codes and (time, message), by rank."""
    bad = {rank: code for rank, code in codes.items() if code and rank not in messages}
    stops = (REQUEUE, -signal.Signals[stopped_by]) if stopped_by else ()
    if bad and not messages and all(code in stops for code in bad.values()):
        return REQUEUE, ""
    # Who is killed cannot report, but the others then do, that they have lost it. NCCL aborts a process that has lost
    # another one, so that SIGABRT may be a consequence too.
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
    return 128 - code, f"error: rank {rank} was killed by {name}{hint}."  # the code that shells give it


def in_torchrun():
    """Whether torchrun has started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ


@dataclass(frozen=True)
class ProcessGroup:
    """All processes of a run, as those of this machine see them; handed to them before they join.

    Attributes:
        backend (str): ``nccl`` for GPUs, ``gloo`` for the CPU.
        url (str): where they meet, an ``init_method`` of PyTorch.
        timeout (timedelta): after which one that waits in vain for the others fails.
        first_rank (int): of this machine's first process.
        local_size (int): processes of this machine, as many as of each other one.
        world_size (int): processes of all machines.
        attempt (int): what torchrun has started again so often must not meet what it left behind in its store.
    """

    backend: str
    url: str
    timeout: timedelta
    first_rank: int
    local_size: int
    world_size: int
    attempt: int = 0

    @classmethod
    def from_config(cls, cfg, args):
        """
        Args:
            cfg (CfgNode): tells device and timeout.
            args (Namespace): of :func:`pixpro_d2.launch_arguments.argument_parser`; inside torchrun its environment
                counts instead.

        Raises:
            UsageError: for fewer GPUs than processes.
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

    def join(self, local_rank):
        """Enter the group, and make the group of this machine's processes that detectron2 expects."""
        if self.backend == "nccl":
            torch.cuda.set_device(local_rank)
        place = {"rank": self.first_rank + local_rank, "world_size": self.world_size, "timeout": self.timeout}
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


def leave():
    """Leave the group of this run, and end the threads that gloo has for it.

    They live as long as anything refers to a group, as detectron2 does and a trainer that is over. A thread that meets
    the end of the interpreter can abort the process, and a finished run would count as failed.
    """
    gc.collect()
    comm._LOCAL_PROCESS_GROUP = None
    for name in ("_get_global_gloo_group", "create_local_process_group"):  # the latter in detectron2 after v0.6
        function = getattr(comm, name, None)
        if hasattr(function, "cache_clear"):
            function.cache_clear()
    dist.destroy_process_group()


def _place_in_torchrun():
    rank, local_rank, local_size, world_size, restarts = (
        int(os.environ[name])
        for name in ("RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "WORLD_SIZE", "TORCHELASTIC_RESTART_COUNT")
    )
    return {
        "url": "env://",
        "first_rank": rank - local_rank,
        "local_size": local_size,
        "world_size": world_size,
        # Machines need not count alike; with several and restarts, docs/scaling.md has torchrun make a store each time.
        "attempt": restarts if os.environ["TORCHELASTIC_USE_AGENT_STORE"] == "True" else 0,
    }


def _place_by_arguments(args):
    if args.num_machines > 1 and args.dist_url.startswith("file://"):
        logger.warning("file:// does not work reliably between machines; prefer --dist-url tcp://HOST:PORT.")
    return {
        "url": f"tcp://localhost:{get_free_port()}" if args.dist_url == "auto" else args.dist_url,
        "first_rank": args.machine_rank * args.num_gpus,
        "local_size": args.num_gpus,
        "world_size": args.num_machines * args.num_gpus,
    }
