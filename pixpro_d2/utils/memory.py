"""Memory that a process uses."""

import resource

import torch


def peak_memory(device):
    """Most bytes in use so far: in a GPU's tensors since its statistics were reset, by the whole process on the CPU."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
