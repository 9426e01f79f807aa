"""Measure one way of training: its speed, its parts, its memory, and its distance to the device's bounds."""

import gc
import warnings
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode

from ...engine.acceleration import amp_dtype
from ...solver.lars import in_format_of
from ...utils.machine import peak_memory
from .bounds import bound_of
from .step import TrainingStep, uncompiled
from .timing import quartiles, time_parts, time_steps
from .traffic import count_work


def measure_training(cfg: CfgNode, source: str, repeats: int, warmup: int) -> dict[str, Any]:
    """Measure iterations of pre-training.

    Args:
        cfg: result of :func:`pixpro_d2.extras.benchmark.step.measured_config`.
        source: see :func:`pixpro_d2.extras.benchmark.sources.build_batches`.
        repeats: number of measured iterations.
        warmup: number of iterations before the measured iterations.

    Returns:
        Results by name:

        * images: images of a batch; seconds: list[float], seconds of each iteration;
        * images_per_second: quartiles over the iterations;
        * images_per_second_overall: all images by all seconds; use it for a loader, whose batches come in bursts;
        * parts: seconds by part, from a quarter of the iterations; see :func:`.time_parts`;
        * peak_bytes: see :func:`.peak_memory`;
        * copied_gradients, waits: see the functions of these names;
        * flop, bytes: work of an iteration without compilation; see :func:`.count_work`;
        * flops, bandwidth: work divided by the median second;
        * flops_bound, bandwidth_bound, bound_source: bounds of the device.
    """
    device = torch.device(cfg.MODEL.DEVICE)
    _forget(device)
    training = TrainingStep(cfg, source)
    time_steps(training, warmup)
    seconds = time_steps(training, repeats)
    peak = peak_memory(device)
    parts = time_parts(training, max(1, repeats // 4))
    checks = {"copied_gradients": copied_gradients(training), "waits": waits(training)}
    del training
    _forget(device)
    work = count_work(TrainingStep(uncompiled(cfg), source))
    _forget(device)
    bound = bound_of(device, precision(cfg))
    images = cfg.SOLVER.IMS_PER_BATCH
    typical = float(np.median(seconds))
    return {
        "images": images,
        "seconds": seconds,
        "images_per_second": quartiles([images / x for x in seconds]),
        "images_per_second_overall": images * len(seconds) / sum(seconds),
        "parts": parts,
        "peak_bytes": peak,
        **checks,
        **work,
        "flops": work["flop"] / typical,
        "bandwidth": work["bytes"] / typical,
        "flops_bound": bound.flops,
        "bandwidth_bound": bound.bandwidth,
        "bound_source": bound.source,
    }


def copied_gradients(training: TrainingStep) -> int:
    """Count the gradients that :class:`pixpro_d2.solver.lars.LARS` copies, because their memory format differs.

    Args:
        training: training after a step.
    """
    gradients = [(p, p.grad) for p in training.model.parameters() if p.grad is not None]
    return sum(in_format_of(p, grad).data_ptr() != grad.data_ptr() for p, grad in gradients)


def waits(training: TrainingStep) -> list[str] | None:
    """Run one more step and list the places where the CPU waits for the GPU, by PyTorch's synchronisation debug mode.

    Args:
        training: training; an iteration that reads its losses waits once.

    Returns:
        ``file:line`` of the Python code of each wait; None on the CPU.
    """
    if training.device.type != "cuda":
        return None
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            training.step()
        finally:
            torch.cuda.set_sync_debug_mode(before)
    return [f"{x.filename}:{x.lineno}" for x in caught if "synchronizing CUDA operation" in str(x.message)]


def profile_training(cfg: CfgNode, steps: int, rows: int) -> str:
    """Return a text table of the ``rows`` slowest operators of ``steps`` iterations, by torch's profiler."""
    training = TrainingStep(cfg, "cached")
    time_steps(training, steps)
    on_gpu = training.device.type == "cuda"
    with torch.profiler.profile(acc_events=True) as profile:
        time_steps(training, steps)
    order = "self_device_time_total" if on_gpu else "self_cpu_time_total"
    return profile.key_averages().table(sort_by=order, row_limit=rows, max_name_column_width=80)


def precision(cfg: CfgNode) -> str:
    """Return the precision of products and convolutions: ``half``, ``tf32`` or ``float32``."""
    if amp_dtype(cfg) is not None:
        return "half"
    return "tf32" if cfg.SOLVER.AMP.TF32 and cfg.MODEL.DEVICE.startswith("cuda") else "float32"


def _forget(device: torch.device) -> None:
    """Free the memory of earlier measurements, compiled code included, so that the next peak is measured alone."""
    torch.compiler.reset()
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
