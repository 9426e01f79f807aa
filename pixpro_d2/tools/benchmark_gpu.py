"""Measure all GPU figures of docs/performance.md in less than eight minutes.

python -m pixpro_d2.tools.benchmark_gpu [--input DIR] [--profile] [--json FILE]

The command prints the rows of the table. Without --input it renders photographs for the loader to read.
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

from ..command_line import ShownDefaults, one_sentence
from ..extras.scenes.render_dataset import render_dataset
from ..launch_arguments import command_of_process
from ..utils.errors import UsageError
from ..utils.files import check_folder_of, write_json
from ..utils.machine import usable_cores


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m pixpro_d2.tools.benchmark_gpu",
        description="Measure everything that docs/performance.md has about GPUs.",
        formatter_class=ShownDefaults,
    )
    parser.add_argument("--input", metavar="DIR", help="folder of photographs; by default rendered")
    parser.add_argument("--workers", type=int, default=min(16, usable_cores()), help="workers of the loader")
    parser.add_argument("--profile", action="store_true", help="also print the operators that take most time")
    parser.add_argument("--json", metavar="FILE", help="write everything that was measured to this file")
    parser.add_argument("--device", help="cuda or cpu; by default a GPU if there is a GPU")
    parser.add_argument("--tiny", action="store_true", help="small models and batches, only to see that it works")
    return parser


@one_sentence
def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line ``argv``, by default the arguments of the process."""
    args = build_parser().parse_args(argv)
    import torch

    from ..extras.benchmark import gpu
    from ..extras.benchmark.step import measured_config
    from ..extras.benchmark.training import profile_training
    from ..utils.machine import describe_machine

    device = torch.device(args.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if device.type == "cpu" and not args.tiny:
        raise UsageError("There is no GPU here to measure: add --tiny to see that everything works on the CPU.")
    if args.json:
        check_folder_of(args.json)
    size = gpu.TINY if args.tiny else gpu.FULL
    with tempfile.TemporaryDirectory() as folder:
        photographs = args.input
        if not photographs:
            render_dataset(Path(folder) / "images", size.photographs, 0, size.side, layouts=("coco",))
            photographs = str(Path(folder) / "images")
        result = gpu.measure(size, args.workers, str(device), photographs)
    where = {"command": command_of_process(), **describe_machine(device)}
    print(f"\n{', '.join(f'{name} {value}' for name, value in where.items())}\n")
    print(
        f"{gpu.row_table(result['rows'])}\n\n{gpu.checks_table(result['rows'])}\n\n{gpu.memory_table(result['memory'])}"
    )
    if args.profile:
        for row in (row for row in gpu.ROWS if not row.options):  # each model in its plain form
            cfg = measured_config(str(gpu.CONFIGS / row.config), row.config_options(size, 0), str(device), size.batch)
            print(f"\n{row.what}\n{profile_training(cfg, steps=max(1, size.repeats // 10), rows=25)}")
    if args.json:
        write_json(args.json, {**where, **result}, indent=2)


if __name__ == "__main__":
    main()
