"""Describe the devices that this machine computes with."""

from dataclasses import dataclass

import torch

from ..utils.machine import usable_cores

GIB = 2**30


@dataclass(frozen=True)
class Machine:
    """Describe a device, its memory and its processor.

    Attributes:
        device: ``cuda`` or ``cpu``, as MODEL.DEVICE.
        processes: number of GPUs; 1 on the CPU by default.
        memory: GiB of the smallest GPU; 0 on the CPU.
        cores: processor cores for all processes together.
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
    """Return the devices of this machine: all GPUs, or the CPU if there is no GPU.

    Args:
        device: ``cuda`` or ``cpu``; "" or ``auto`` chooses.
        processes: number of processes; 0 for one on each GPU.
    """
    found = "cuda" if torch.cuda.is_available() else "cpu"
    device, _, index = (found if device in ("", "auto") else device).partition(":")
    gpus = torch.cuda.device_count() if device == "cuda" else 0
    sizes = [torch.cuda.get_device_properties(i).total_memory / GIB for i in range(gpus)]
    return Machine(device, processes or (1 if index else max(gpus, 1)), min(sizes, default=0.0), usable_cores())
