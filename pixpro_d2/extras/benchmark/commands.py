"""Measure what the sub-commands of the benchmark measure, and print it; they are listed in ``COMMANDS``."""

import argparse
from typing import Any

from detectron2.config import CfgNode
from tabulate import tabulate

from ...data.pretrain.samples import load_images
from ...utils.errors import UsageError
from .data import compare_pipelines, loader_rate, stage_times
from .memory import GIB, GPU_SIZES, largest_batch, memory_need
from .step import TrainingStep
from .timing import quartiles, time_parts, time_steps
from .training import measure_training
from .turns import compare
from .updates import UpdateStep


def run_step(cfg: CfgNode, args: argparse.Namespace) -> dict[str, Any]:
    """Measure whole iterations."""
    if args.compare:
        if args.source == "loader":
            raise UsageError("Two loaders at once would take each other's cores: compare --source synthetic or cached.")
        return _compare(cfg, args, updates_only=False)
    result = measure_training(cfg, args.source, args.repeats, args.warmup)
    print(f"{result['images']} images in a batch, {args.source}; milliseconds of an iteration and of its parts")
    _print_times({"ours": result["seconds"]}, {"ours": result["parts"]})
    rate = result["images_per_second"]
    print(
        f"\nimages/s: median {rate['median']:.4g}, quartiles {rate['lower_quartile']:.4g} to "
        f"{rate['upper_quartile']:.4g}, overall {result['images_per_second_overall']:.4g}"
    )
    print(f"peak memory: {result['peak_bytes'] / GIB:.2f} GiB")
    for what, per_step, per_second, unit in (
        ("arithmetic", "flop", "flops", "FLOP"),
        ("traffic", "bytes", "bandwidth", "B"),
    ):
        reached, bound = result[per_second], result[f"{per_second}_bound"]
        print(
            f"{what}: {result[per_step] / 1e9:.4g} G{unit} in an iteration, {reached / 1e12:.3g} T{unit}/s, "
            f"{reached / bound:.1%} of {bound / 1e12:.3g} T{unit}/s"
        )
    print(f"bounds: {result['bound_source']}")
    return result


def run_optimizer(cfg: CfgNode, args: argparse.Namespace) -> dict[str, Any]:
    """Measure only the optimiser and the momentum update, with random gradients."""
    if args.compare:
        return _compare(cfg, args, updates_only=True)
    updates = UpdateStep(TrainingStep(cfg, "cached"))
    time_steps(updates, args.warmup)
    seconds, parts = time_steps(updates, args.repeats), time_parts(updates, max(1, args.repeats // 4))
    print("Milliseconds of an update")
    _print_times({"ours": seconds}, {"ours": parts})
    return {"seconds": seconds, "parts": parts}


def run_data(cfg: CfgNode, args: argparse.Namespace) -> dict[str, Any]:
    """Measure the stages of the input pipeline, and compare the pipeline with a plain one."""
    if cfg.INPUT.PIXPRO.N_FRAMES:
        raise UsageError("The stages are those of images: measure videos with `loader`, or `step --source loader`.")
    images = load_images(tuple(cfg.DATASETS.TRAIN))
    stages = stage_times(cfg, images, args.count, args.repeats)
    print(tabulate(stages.items(), headers=["stage", "ms per image and core"], floatfmt=".3f"))
    pipelines = compare_pipelines(cfg, images, args.count, args.repeats)
    rows = [[name, *values.values()] for name, values in pipelines.items()]
    print("\nImages per second and core, and ratios of these")
    print(tabulate(rows, headers=["pipeline", *pipelines["plain"]], floatfmt=".2f"))
    return {"stages": stages, "pipelines": pipelines}


def run_loader(cfg: CfgNode, args: argparse.Namespace) -> dict[str, Any]:
    """Measure the loader as a whole."""
    result = loader_rate(cfg, args.seconds)
    print(tabulate([result.values()], headers=list(result), floatfmt=".4g"))
    return result


def run_memory(cfg: CfgNode, args: argparse.Namespace) -> dict[str, Any]:
    """Report the memory of a step by purpose, and the largest batches."""
    need = memory_need(cfg)
    print(tabulate([[name, size / 2**20] for name, size in need.items()], headers=["for", "MiB"], floatfmt=".1f"))
    batches = {size: largest_batch(need, size * GIB) for size in GPU_SIZES}
    print()
    print(tabulate(batches.items(), headers=["GiB of a GPU", "largest batch"]))
    result: dict[str, Any] = {"bytes": need, "largest_batch": batches}
    if cfg.MODEL.DEVICE.startswith("cuda"):
        result["measured"] = measure_training(cfg, "cached", repeats=3, warmup=3)["peak_bytes"]
        print(f"\nmeasured with {cfg.SOLVER.IMS_PER_BATCH} images: {result['measured'] / GIB:.2f} GiB")
    return result


def _compare(cfg: CfgNode, args: argparse.Namespace, updates_only: bool) -> dict[str, Any]:
    source = "cached" if updates_only else args.source
    result = compare(cfg, args.repeats, args.warmup, updates_only, source, args.compare)
    print("Milliseconds, side by side")
    _print_times(result["seconds"], result["parts"])
    ratio = result["ratio"]
    print(
        f"\n{args.compare} / ours: median {ratio['median']:.3f}, quartiles {ratio['lower_quartile']:.3f} to "
        f"{ratio['upper_quartile']:.3f}, range {ratio['min']:.3f} to {ratio['max']:.3f} over {args.repeats} pairs"
    )
    values = "norms of the weights" if updates_only else "losses"
    if result["difference"] is not None:
        print(f"largest difference of the {values}: {result['difference']:.2g}")
    return result


def _print_times(seconds: dict[str, list[float]], parts: dict[str, dict[str, float]]) -> None:
    """Print a table of the iteration's quartiles and the parts, with a column for each side."""
    rows = []
    for name in ("median", "lower_quartile", "upper_quartile"):
        rows.append([f"iteration, {name.replace('_', ' ')}", *(1000 * quartiles(s)[name] for s in seconds.values())])
    for part in next(iter(parts.values())):
        rows.append([part, *(1000 * times[part] if part in times else None for times in parts.values())])
    print(tabulate(rows, headers=["", *seconds], floatfmt=".2f"))


COMMANDS = {
    "step": run_step,
    "data": run_data,
    "loader": run_loader,
    "optimizer": run_optimizer,
    "memory": run_memory,
}
