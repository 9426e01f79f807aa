"""Let the processes of a run find each other, and part again."""

import gc
import logging
import os
from argparse import Namespace
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from detectron2.config import CfgNode
from detectron2.utils import comm
from torch.distributed.elastic.utils.distributed import get_free_port

from ...utils.errors import UsageError

logger = logging.getLogger(__name__)


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
        attempt: number of restarts by torchrun. Each attempt has its own keys in the store: with the keys of earlier
            attempts, which the store still holds, ``init_process_group`` alone would wait for processes that are gone.
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
