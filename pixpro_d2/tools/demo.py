"""Show the whole way in minutes, without any data: pre-train, fine-tune, evaluate, draw.

    python -m pixpro_d2.tools.demo [--output output/demo]

The demo renders scenes. PixPro and PixContrast pre-train configs/pretrain/quickstart.yaml on unlabelled scenes. Then
the demo trains a segmentation on a few labelled scenes from these checkpoints and from random weights, each with three
seeds. At the end it prints the results. Every training is a run of train_net.py. A repeated command skips finished
trainings.
"""

import argparse
from pathlib import Path

from ..command_line import ShownDefaults, one_sentence, program
from ..utils.errors import UsageError
from ..utils.signals import requeue_when_stopped

SIZES = ("demo", "smoke")


def _check_device(name: str) -> None:
    from ..engine.configuration.configure import load_config, resolve_device

    try:
        resolve_device(load_config("", ["MODEL.DEVICE", name]))
    except UsageError as error:
        raise UsageError(str(error).replace("MODEL.DEVICE", "--device")) from None


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog=program("demo"),
        description="Pre-train, fine-tune and evaluate on rendered scenes.",
        formatter_class=ShownDefaults,
    )
    parser.add_argument("--output", type=Path, default=Path("output/demo"), help="folder for all results")
    parser.add_argument("--size", choices=SIZES, default="demo", help="smoke: only check that everything runs")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    return parser


@one_sentence
def main(argv: list[str] | None = None) -> None:
    """Run the command line ``argv``, by default the arguments of the process."""
    args = build_parser().parse_args(argv)
    from ..extras.demo import experiments, running  # these load PyTorch

    _check_device(args.device)
    with requeue_when_stopped():
        running.run(args.output.resolve(), experiments.SIZES[args.size], args.device)


if __name__ == "__main__":
    main()
