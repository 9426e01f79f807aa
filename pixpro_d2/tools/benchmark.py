"""Measure the speed of pre-training on this machine, and where its time and memory go.

python -m pixpro_d2.tools.benchmark step --config-file configs/pretrain/pixpro_c5_100ep.yaml --compare reference

``step`` measures whole iterations, and ``optimizer`` their last part. ``data`` and ``loader`` measure the input.
``memory`` reports the memory of a step and the largest batch that fits. docs/performance.md explains the tables.
"""

import argparse
from collections.abc import Sequence
from typing import Any

import torch
from detectron2.config import CfgNode
from tabulate import tabulate

from ..command_line import OptionsAnywhere
from ..data.pretrain.samples import load_images
from ..extras.benchmark.data import compare_pipelines, loader_rate, stage_times
from ..extras.benchmark.memory import GIB, GPU_SIZES, largest_batch, memory_need
from ..extras.benchmark.sources import SOURCES
from ..extras.benchmark.step import TrainingStep, measured_config
from ..extras.benchmark.timing import spread, time_parts, time_steps
from ..extras.benchmark.training import measure_training
from ..extras.benchmark.turns import compare
from ..extras.benchmark.updates import UpdateStep
from ..launch_arguments import command_of_process
from ..utils.errors import UsageError
from ..utils.files import write_json
from ..utils.machine import describe_machine


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
    for what, per_step, rate, unit, scale in (
        ("arithmetic", "flop", "flops", "FLOP", 1e12),
        ("traffic", "bytes", "bandwidth", "B", 1e12),
    ):
        bound = result[f"{rate}_bound"]
        print(
            f"{what}: {result[per_step] / 1e9:.4g} G{unit} in an iteration, {result[rate] / scale:.3g} T{unit}/s, "
            f"{result[rate] / bound:.1%} of {bound / scale:.3g} T{unit}/s"
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
    result = compare(cfg, args.repeats, args.warmup, updates_only, "cached" if updates_only else args.source)
    print("Milliseconds, side by side")
    _print_times(result["seconds"], result["parts"])
    ratio = result["ratio"]
    print(
        f"\nreference / ours: median {ratio['median']:.3f}, quartiles {ratio['lower_quartile']:.3f} to "
        f"{ratio['upper_quartile']:.3f}, range {ratio['min']:.3f} to {ratio['max']:.3f} over {args.repeats} pairs"
    )
    values = "norms of the weights" if updates_only else "losses"
    print(f"largest difference of the {values}: {result['difference']:.2g}")
    return result


def _print_times(seconds: dict[str, list[float]], parts: dict[str, dict[str, float]]) -> None:
    """Print a table of the iteration's quartiles and the parts, with a column for each side."""
    rows = []
    for name in ("median", "lower_quartile", "upper_quartile"):
        rows.append([f"iteration, {name.replace('_', ' ')}", *(1000 * spread(s)[name] for s in seconds.values())])
    for part in next(iter(parts.values())):
        rows.append([part, *(1000 * times[part] for times in parts.values())])
    print(tabulate(rows, headers=["", *seconds], floatfmt=".2f"))


COMMANDS = {
    "step": run_step,
    "data": run_data,
    "loader": run_loader,
    "optimizer": run_optimizer,
    "memory": run_memory,
}


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = OptionsAnywhere(
        prog="python -m pixpro_d2.tools.benchmark",
        description="Measure pre-training on this machine.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="{" + ",".join(COMMANDS) + "}")
    for name, function in COMMANDS.items():
        command = commands.add_parser(
            name, description=function.__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
        )
        command.add_argument("--config-file", required=True, help="config of a pre-training")
        command.add_argument("--input", metavar="DIR", help="folder of images; DATASETS.TRAIN of the config without it")
        command.add_argument("--device", help="a GPU where there is one, otherwise cpu")
        command.add_argument(
            "--batch", type=int, metavar="N", help="images, whatever SOLVER.IMS_PER_BATCH; 128 on a GPU, 8 on the CPU"
        )
        command.add_argument("--json", metavar="FILE", help="write everything that was measured to this file")
        _add_options(command, name)
        command.add_argument("opts", nargs=argparse.REMAINDER, help="config options as KEY VALUE ...")
    return parser


def _add_options(command: argparse.ArgumentParser, name: str) -> None:
    if name in ("step", "optimizer", "data"):
        command.add_argument("--repeats", type=int, default=5 if name == "data" else 20, help="measured repetitions")
    if name in ("step", "optimizer"):
        command.add_argument("--warmup", type=int, default=5, help="repetitions before these")
        command.add_argument(
            "--compare", choices=["reference"], help="measure the plain reference step in turns with ours"
        )
    if name == "step":
        command.add_argument("--source", choices=SOURCES, default="synthetic", help="where the batches come from")
    if name == "data":
        command.add_argument("--count", type=int, default=128, help="images to measure with")
    if name == "loader":
        command.add_argument("--seconds", type=float, default=20, help="how long to measure")


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line ``argv``, by default the arguments of the process."""
    args = build_parser().parse_args(argv)
    try:
        _check(args)
        cfg = measured_config(args.config_file, args.opts, args.device, args.batch, args.input)
        result = COMMANDS[args.command](cfg, args)
    except UsageError as error:
        raise SystemExit(f"error: {error}") from None
    if args.json:
        where = {"command": command_of_process(), **describe_machine(torch.device(cfg.MODEL.DEVICE))}
        write_json(
            args.json, {**where, "config": args.config_file, "options": args.opts, args.command: result}, indent=2
        )


def _check(args: argparse.Namespace) -> None:
    """Check that the numbers leave something to measure."""
    for name, least in (("batch", 1), ("repeats", 1), ("warmup", 0), ("count", 1)):
        value = getattr(args, name, None)
        if value is not None and value < least:
            raise UsageError(f"--{name} is {value}; it must be at least {least}.")


if __name__ == "__main__":
    main()
