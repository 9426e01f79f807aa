"""What this machine computes with."""

import os
from dataclasses import dataclass

import torch

GIB = 2**30


@dataclass(frozen=True)
class Machine:
    """A device and what belongs to it.

    Attributes:
        device: ``cuda`` or ``cpu``, as MODEL.DEVICE.
        processes: GPUs, or 1 on the CPU.
        memory: GiB of the smallest GPU; 0 on the CPU.
        cores: of the processor, for all processes.
    """

    device: str
    processes: int
    memory: float
    cores: int

    def __str__(self) -> str:
        if self.device == "cpu":
            return "the CPU"
        return f"{self.processes} GPU{'s' if self.processes > 1 else ''} of {self.memory:.0f} GiB"


def this_machine(device: str = "", processes: int = 0) -> Machine:
    """Return what there is: all GPUs, or else the CPU.

    Args:
        device: ``cuda`` or ``cpu`` to use this one.
        processes: number of processes; 0 for one on each GPU.
    """
    device = (device or ("cuda" if torch.cuda.is_available() else "cpu")).partition(":")[0]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    gpus = torch.cuda.device_count() if device == "cuda" else 0
    sizes = [torch.cuda.get_device_properties(i).total_memory / GIB for i in range(gpus)]
    return Machine(device, processes or max(gpus, 1), min(sizes, default=0.0), cores)
