"""Measure the memory that a process uses."""

import resource

import torch


def peak_memory(device: torch.device) -> int:
    """Return the peak memory so far, in bytes.

    On a GPU, count the memory of tensors since the statistics were reset. On the CPU, count the whole process.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
