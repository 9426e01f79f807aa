"""What the processes of a run tell each other within a loss; a single process neither sends nor waits."""

import torch
import torch.distributed.nn.functional
from torch import distributed


def world_size() -> int:
    """Return the number of processes of the run."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def gather_keys(keys):
    """Join the keys of all processes, in the order of the processes; without gradient.

    Args:
        keys (Tensor): (N, ...), of the same shape in every process.

    Returns:
        tuple: (Tensor (M, ...), int), the joint keys and the row at which this process's own begin.
    """
    if world_size() == 1:
        return keys, 0
    gathered = [torch.empty_like(keys) for _ in range(world_size())]
    torch.distributed.all_gather(gathered, keys.contiguous())
    return torch.cat(gathered), distributed.get_rank() * len(keys)


def sum_over_processes(value: torch.Tensor) -> torch.Tensor:
    """Sum a tensor over the processes, with its gradient; all processes must call this.

    The gradient of the sum is summed over the processes too. DistributedDataParallel then averages the gradients of
    the weights, so that a loss of the sum has the gradient that one process with all images has.
    """
    if world_size() == 1:
        return value
    return torch.distributed.nn.functional.all_reduce(value)


def mean_over_processes(value):
    """Mean of a tensor over the processes, float32, without gradient; all processes must call it."""
    value = value.detach().float()
    if world_size() > 1:
        value = value.clone()
        torch.distributed.all_reduce(value)
    return value / world_size()
