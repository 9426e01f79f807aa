"""Measure the rows of the table of GPUs in docs/performance.md, and format the tables."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from detectron2.config import CfgNode
from tabulate import tabulate

from ...config_files import configs_folder
from .memory import GIB, GPU_SIZES, largest_batch, memory_need
from .step import measured_config
from .training import measure_training

CONFIGS = configs_folder() / "pretrain"
C5, FPN = "pixpro_c5_100ep.yaml", "pixpro_fpn.yaml"
COMPILE_OPTIONS = ("MODEL.PIXPRO.COMPILE", True)


@dataclass(frozen=True)
class Row:
    """Describe a way of training.

    ``what`` is its title. ``goal`` is in images/s on an H200, or if at most 1, a share of the first row's images/s.
    """

    what: str
    config: str
    options: tuple = ()
    source: str = "synthetic"
    goal: float = 0.0

    def config_options(self, size: "Size", workers: int) -> list[Any]:
        """Return KEY VALUE ... on top of the config."""
        return [*self.options, "DATALOADER.NUM_WORKERS", workers, *size.options]


ROWS = (
    Row("R50-C5, synthetic data", C5, goal=2100),
    Row("R50-C5, synthetic data, compiled", C5, COMPILE_OPTIONS, goal=3000),
    Row("R50-C5, JPEG files, augmented on the device", C5, ("INPUT.AUG_DEVICE", "model"), "loader", goal=0.9),
    Row("R50-FPN P3-P6, synthetic data", FPN, goal=0.6),
    Row("R50-FPN P3-P6, synthetic data, compiled", FPN, COMPILE_OPTIONS),
)


@dataclass(frozen=True)
class Size:
    """Hold the amount of work: images of a batch, iterations, and photographs (number and side in pixels)."""

    batch: int
    repeats: int
    warmup: int
    photographs: int
    side: int
    options: tuple = ()


FULL = Size(batch=128, repeats=60, warmup=40, photographs=256, side=448)
TINY = Size(
    batch=4, repeats=1, warmup=1, photographs=8, side=64,
    options=(
        "MODEL.RESNETS.DEPTH", 18, "MODEL.RESNETS.RES2_OUT_CHANNELS", 64, "MODEL.FPN.OUT_CHANNELS", 32,
        "MODEL.PIXPRO.PROJECTOR.HIDDEN_DIM", 32, "INPUT.PIXPRO.CROP_SIZE", 64,
    ),
)  # fmt: skip


def measure(size: Size, workers: int, device: str, photographs: str) -> dict[str, Any]:
    """Measure all rows, and the memory of both models.

    Args:
        size: amount of work.
        workers: number of workers of the loader.
        device: device to measure on.
        photographs: folder of images.

    Returns:
        ``rows``: results of :func:`.measure_training`, or "out of memory", by :attr:`Row.what`. ``memory``: results of
        :func:`.memory_need` by config.
    """

    def config(file: str, options: Sequence[Any]) -> CfgNode:
        return measured_config(str(CONFIGS / file), options, device, size.batch, photographs)

    rows: dict[str, Any] = {}
    for row in ROWS:
        print(f"measuring {row.what} ...", flush=True)
        cfg = config(row.config, row.config_options(size, workers))
        try:
            rows[row.what] = measure_training(cfg, row.source, size.repeats, size.warmup)
        except torch.OutOfMemoryError:
            rows[row.what] = "out of memory"
    return {"rows": rows, "memory": {file: memory_need(config(file, size.options)) for file in (C5, FPN)}}


def row_table(rows: dict[str, Any]) -> str:
    """Return the results of :func:`measure` as a table in Markdown."""
    first = rows[ROWS[0].what]
    lines = []
    for row in ROWS:
        result = rows[row.what]
        if isinstance(result, str):
            lines.append([row.what, _goal(row), result])
            continue
        rate = _rate(row, result)
        share = "" if isinstance(first, str) else f"{rate / _rate(ROWS[0], first):.0%}"
        arithmetic = f"{result['flops'] / 1e12:.3g} TFLOP/s ({result['flops'] / result['flops_bound']:.0%})"
        traffic = f"{result['bandwidth'] / 1e12:.3g} TB/s ({result['bandwidth'] / result['bandwidth_bound']:.0%})"
        milliseconds = ", ".join(f"{part} {1000 * s:.1f}" for part, s in result["parts"].items())
        peak = f"{result['peak_bytes'] / GIB:.1f}"
        lines.append([row.what, _goal(row), f"{rate:.0f}", share, arithmetic, traffic, peak, milliseconds])
    headers = [
        "what",
        "goal",
        "images/s",
        "of the first",
        "arithmetic (of the bound)",
        "traffic",
        "peak GiB",
        "parts, ms",
    ]
    return tabulate(lines, headers=headers, tablefmt="github", disable_numparse=True)


def checks_table(rows: dict[str, Any]) -> str:
    """Return the copied gradients and the waits of each row, in Markdown."""
    lines = [
        [what, result["copied_gradients"], _waits(result["waits"])]
        for what, result in rows.items()
        if not isinstance(result, str)
    ]
    return tabulate(
        lines, headers=["what", "gradients that LARS copies", "waits for the GPU in a step"], tablefmt="github"
    )


def _waits(places: Sequence[str] | None) -> str:
    if places is None:
        return "not on a GPU"
    return f"{len(places)}: {', '.join(places)}" if places else "0"


def memory_table(needs: dict[str, dict[str, int]]) -> str:
    """Return the largest batches by model and GPU size, in Markdown."""
    lines = [
        [file, f"{need['per image'] / 2**20:.1f}", *(largest_batch(need, gib * GIB) for gib in GPU_SIZES)]
        for file, need in needs.items()
    ]
    headers = ["largest batch", "MiB per image", *(f"{gib} GiB" for gib in GPU_SIZES)]
    return tabulate(lines, headers=headers, tablefmt="github", disable_numparse=True)


def _rate(row: Row, result: dict[str, Any]) -> float:
    """Return the images per second; a loader's batches come in bursts, which a median would hide."""
    return result["images_per_second_overall"] if row.source == "loader" else result["images_per_second"]["median"]


def _goal(row: Row) -> str:
    if not row.goal:
        return ""
    return f"{row.goal:.0f} images/s on an H200" if row.goal > 1 else f"{row.goal:.0%} of the first"
