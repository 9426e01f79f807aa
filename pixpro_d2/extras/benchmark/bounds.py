"""Look up or measure the bounds of a device: arithmetic and memory traffic per second."""

import functools
import re
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from .timing import synchronize

REPETITIONS = 5


@dataclass(frozen=True)
class Bound:
    """Hold the bounds of a device: ``flops`` per second in one precision, ``bandwidth`` in bytes per second, source."""

    flops: float
    bandwidth: float
    source: str


# Part of PyTorch's name of a GPU (the first match counts) -> dense TFLOP/s in half precision, TF32 and float32; TB/s.
GPU_BOUNDS = {
    "H200 NVL": (836, 418, 60, 4.8),
    "H200": (989, 494, 67, 4.8),
    "H100 PCIe": (756, 378, 51, 2.0),
    "H100 NVL": (836, 418, 60, 3.9),
    "H100": (989, 494, 67, 3.35),
    "A100-SXM4-80GB": (312, 156, 19.5, 2.039),
    "A100 80GB PCIe": (312, 156, 19.5, 1.935),
    "A100": (312, 156, 19.5, 1.555),
}
PRECISIONS = ("half", "tf32", "float32")


@functools.cache
def bound_of(device: torch.device, precision: str) -> Bound:
    """Return the bounds of a device: from NVIDIA's data sheet if the GPU is in the table, otherwise measured once.

    Args:
        device: device.
        precision: precision of the products: ``half``, ``tf32`` or ``float32``.
    """
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        for part, (*tflops, terabytes) in GPU_BOUNDS.items():
            if re.search(rf"\b{re.escape(part)}\b", name):  # H200, but not GH200
                flops = tflops[PRECISIONS.index(precision)]
                return Bound(flops * 1e12, terabytes * 1e12, f"NVIDIA's data sheet of the {part}, dense")
    return measured_bound(device, torch.bfloat16 if precision == "half" else torch.float32)


def measured_bound(device: torch.device, dtype: torch.dtype, side: int | None = None, copied: int = 2**28) -> Bound:
    """Measure bounds by the fastest of several products of two square matrices, and of several copies.

    Args:
        device: device.
        dtype: type of the matrices.
        side: side of a matrix; by default a side that keeps the device busy.
        copied: bytes to copy; far more than caches hold.
    """
    side = side or (8192 if device.type == "cuda" else 1024)
    a, b = torch.randn(2, side, side, device=device).to(dtype)
    source, target = torch.zeros(2, copied, dtype=torch.uint8, device=device)
    product = _fastest(lambda: torch.mm(a, b), device)
    copy = _fastest(lambda: target.copy_(source), device)
    return Bound(
        flops=2 * side**3 / product,
        bandwidth=2 * copied / copy,
        source=f"measured: product of two {side} x {side} matrices, copy of {copied / 2**20:.0f} MiB",
    )


def _fastest(function: Callable[[], object], device: torch.device) -> float:
    times = []
    for _ in range(REPETITIONS + 1):
        synchronize(device)
        start = time.perf_counter()
        function()
        synchronize(device)
        times.append(time.perf_counter() - start)
    return min(times[1:])
