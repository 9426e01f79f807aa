"""Exchange between the processes of a run within a loss; a single process neither sends nor waits."""

import torch
import torch.distributed.nn.functional
from torch import Tensor, distributed


def world_size() -> int:
    """Return the number of processes of the run."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def gather_keys(keys: Tensor) -> tuple[Tensor, int]:
    """Join the keys of all processes, in the order of the processes; without gradient.

    Args:
        keys: (N, ...), of the same shape in every process.

    Returns:
        The joint keys (M, ...), and the row at which the keys of this process begin.
    """
    if world_size() == 1:
        return keys, 0
    gathered = [torch.empty_like(keys) for _ in range(world_size())]
    torch.distributed.all_gather(gathered, keys.contiguous())
    return torch.cat(gathered), distributed.get_rank() * len(keys)


def sum_over_processes(value: Tensor) -> Tensor:
    """Sum a tensor over the processes, with its gradient; all processes must call this.

    The gradient of the sum is summed over the processes too. DistributedDataParallel then averages the gradients of
    the weights, so that a loss of the sum has the gradient that one process with all images has.
    """
    if world_size() == 1:
        return value
    return torch.distributed.nn.functional.all_reduce(value)


def mean_over_processes(value: Tensor) -> Tensor:
    """Return the mean of a tensor over the processes, float32, without gradient; all processes must call this."""
    value = value.detach().float()
    if world_size() > 1:
        value = value.clone()
        torch.distributed.all_reduce(value)
    return value / world_size()
