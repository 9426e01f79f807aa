"""Measure the speed of pre-training on this machine, and where its time and memory go.

python -m pixpro_d2.tools.benchmark step --config-file configs/pretrain/pixpro_c5_100ep.yaml --compare reference

``step`` measures whole iterations, and ``optimizer`` their last part. ``data`` and ``loader`` measure the input.
``memory`` reports the memory of a step and the largest batch that fits. docs/performance.md explains the tables.
"""

import argparse
from collections.abc import Sequence

from ..command_line import OptionsAnywhere, ShownDefaults, at_least, one_sentence, positive, program
from ..launch_arguments import command_of_process
from ..utils.files import check_folder_of, write_json

COMMANDS = {
    "step": "Measure whole iterations.",
    "data": "Measure the stages of the input pipeline, and compare the pipeline with a plain one.",
    "loader": "Measure the loader as a whole.",
    "optimizer": "Measure only the optimiser and the momentum update, with random gradients.",
    "memory": "Report the memory of a step by purpose, and the largest batches.",
}
SOURCES = ("synthetic", "cached", "loader")


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = OptionsAnywhere(
        prog=program("benchmark"),
        description="Measure pre-training on this machine.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="{" + ",".join(COMMANDS) + "}")
    for name, purpose in COMMANDS.items():
        command = commands.add_parser(name, help=purpose, description=purpose, formatter_class=ShownDefaults)
        command.add_argument("--config-file", required=True, help="config of a pre-training")
        command.add_argument("--input", metavar="DIR", help="folder of images; DATASETS.TRAIN of the config without it")
        command.add_argument("--device", help="a GPU where there is one, otherwise cpu")
        command.add_argument(
            "--batch",
            type=positive,
            metavar="N",
            help="images, whatever SOLVER.IMS_PER_BATCH; 128 on a GPU, 8 on the CPU",
        )
        command.add_argument("--json", metavar="FILE", help="write everything that was measured to this file")
        _add_options(command, name)
        command.add_argument("opts", nargs=argparse.REMAINDER, help="config options as KEY VALUE ...")
    return parser


def _add_options(command: argparse.ArgumentParser, name: str) -> None:
    if name in ("step", "optimizer", "data"):
        command.add_argument(
            "--repeats", type=positive, default=5 if name == "data" else 20, help="measured repetitions"
        )
    if name in ("step", "optimizer"):
        command.add_argument("--warmup", type=at_least(0), default=5, help="repetitions before these")
        peers = {"reference": "the plain reference step", "lightly": "lightly's BYOL"}
        if name == "optimizer":
            del peers["lightly"]
        command.add_argument(
            "--compare", choices=peers, help=f"measure {' or '.join(peers.values())} in turns with ours"
        )
    if name == "step":
        command.add_argument("--source", choices=SOURCES, default="synthetic", help="where the batches come from")
    if name == "data":
        command.add_argument("--count", type=positive, default=128, help="images to measure with")
    if name == "loader":
        command.add_argument("--seconds", type=float, default=20, help="how long to measure")


@one_sentence
def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line ``argv``, by default the arguments of the process."""
    args = build_parser().parse_args(argv)
    import torch

    from ..extras.benchmark import commands  # these load PyTorch
    from ..extras.benchmark.step import measured_config
    from ..utils.machine import describe_machine

    if args.json:
        check_folder_of(args.json)
    cfg = measured_config(args.config_file, args.opts, args.device, args.batch, args.input)
    result = commands.COMMANDS[args.command](cfg, args)
    if args.json:
        where = {"command": command_of_process(), **describe_machine(torch.device(cfg.MODEL.DEVICE))}
        write_json(
            args.json, {**where, "config": args.config_file, "options": args.opts, args.command: result}, indent=2
        )


if __name__ == "__main__":
    main()
