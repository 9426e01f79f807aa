"""How the processes of a run find each other and talk."""

import gc
import logging
import os
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from detectron2.utils import comm
from torch.distributed.elastic.utils.distributed import get_free_port

from ..errors import UsageError

logger = logging.getLogger(__name__)


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
