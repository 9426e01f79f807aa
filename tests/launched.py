"""A program of train_net.py's arguments whose processes talk, fail or wait, as the variable CASE says."""

import os
import signal
import time

import torch
from detectron2.utils import comm

from pixpro_d2.engine import argument_parser, launch
from pixpro_d2.utils.signals import StopSignals


def main(args):
    """One process."""
    case, rank = os.environ["CASE"], comm.get_rank()
    total = torch.tensor([float(rank)])
    torch.distributed.all_reduce(total)
    place = f"rank {rank} of {comm.get_world_size()}, {comm.get_local_rank()} of {comm.get_local_size()} here"
    print(f"{place}: sum {total.item():g}, resume {args.resume}", flush=True)
    if rank == 1:
        if case == "raise" or (case == "restart" and os.environ["TORCHELASTIC_RESTART_COUNT"] == "0"):
            raise ArithmeticError("the fault of one process")
        if case == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
    if case == "raise":  # waits for what never comes, and does not end for a stop signal
        with StopSignals():
            time.sleep(1000)
    comm.synchronize()
    if case == "restart":
        print(f"rank {rank} ends, resume {args.resume}", flush=True)


if __name__ == "__main__":
    launch(main, argument_parser().parse_args())
