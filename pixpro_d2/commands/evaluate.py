"""Run ``pixpro-d2 evaluate``: evaluate a run again, or evaluate its last checkpoint on other data."""

from collections.abc import Sequence
from pathlib import Path

from ..command_line import OptionsAnywhere
from ..utils.errors import UsageError
from .checks import check_detectron2, check_file, check_pairs, data_address
from .parsing import add_options, command_parser

LAST_CHECKPOINT = "model_final.pth"


def build_parser() -> OptionsAnywhere:
    """Return the parser of the command line."""
    parser = command_parser("evaluate", "Evaluate the model of a run.")
    parser.add_argument("run", metavar="RUN", help="folder of a run, or a checkpoint in one")
    parser.add_argument("--test", metavar="DATA", default="", help="data set (default: that of the run)")
    add_options(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line ``argv``; by default the command line of this process.

    Raises:
        UsageError: for a mistake in the command line.
    """
    args = build_parser().parse_args(argv)
    words = evaluation_words(args.run, args.test, args.opts)
    check_detectron2()
    from ..engine.main import run  # it loads PyTorch

    run(words)


def evaluation_words(run: str, test: str, opts: Sequence[str]) -> list[str]:
    """Return the launcher's arguments for an evaluation.

    Raises:
        UsageError: if ``run`` is neither a folder of a run nor a checkpoint in one.
    """
    path = Path(run)
    if not path.exists():
        raise UsageError(f"There is no folder or checkpoint {path.absolute()}: check the path.")
    weights = path / LAST_CHECKPOINT if path.is_dir() else path
    config = weights.parent / "config.yaml"
    check_file(str(weights), "checkpoint", "name the folder of a finished run, or a checkpoint in it")
    check_file(str(config), "config of a run", "name a checkpoint in the folder of its run")
    check_pairs(opts)
    data = ["DATASETS.TEST", data_address(test)] if test else []
    start = ["MODEL.WEIGHTS", str(weights), "OUTPUT_DIR", str(weights.parent)]
    return ["--eval-only", "--config-file", str(config), *start, *data, *opts]
