"""Starting one or many processes: with GPUs by detectron2, without by gloo, or inside torchrun."""

import os
import sys

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from detectron2.engine import launch as detectron2_launch
from detectron2.utils import comm


def launch(main, args):
    """Run ``main(args)`` in ``args.num_gpus`` processes on each of ``args.num_machines`` machines.

    Under torchrun the processes exist already and these two counts are ignored. Without a GPU the
    processes talk by gloo, which detectron2 v0.6's own launcher cannot.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ:
        _join(int(os.environ["LOCAL_RANK"]), int(os.environ["LOCAL_WORLD_SIZE"]), "env://")
        main(args)
        return
    try:
        if torch.cuda.is_available() or args.num_gpus * args.num_machines == 1:
            detectron2_launch(
                main, args.num_gpus, args.num_machines, args.machine_rank, dist_url=args.dist_url, args=(args,)
            )
        else:
            mp.spawn(_cpu_worker, nprocs=args.num_gpus, args=(main, args))
    except mp.ProcessExitedException as error:  # the process has printed its reason
        sys.exit(error.exit_code)


def _cpu_worker(local_rank, main, args):
    torch.set_num_threads(max(1, torch.get_num_threads() // args.num_gpus))
    rank = args.machine_rank * args.num_gpus + local_rank
    _join(local_rank, args.num_gpus, args.dist_url, rank=rank, world_size=args.num_gpus * args.num_machines)
    main(args)


def _join(local_rank, local_size, url, **rank_and_size):
    """Enter the process group, and make the group of this machine's processes that detectron2 expects."""
    if torch.cuda.is_available():
        torch.cuda.set_device(local_rank)
    dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo", init_method=url, **rank_and_size)
    if hasattr(comm, "create_local_process_group"):  # detectron2 after v0.6
        comm.create_local_process_group(local_size)
    else:
        for first in range(0, dist.get_world_size(), local_size):
            ranks = range(first, first + local_size)
            group = dist.new_group(list(ranks))
            if dist.get_rank() in ranks:
                comm._LOCAL_PROCESS_GROUP = group
    comm.synchronize()
