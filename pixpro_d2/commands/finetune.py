"""Run ``pixpro-d2 finetune``: train a detector, a segmentation or a classifier from pre-trained weights."""

import shlex
from collections.abc import Sequence

from ..command_line import OptionsAnywhere
from ..config_files import config_path
from .checks import check_detectron2, check_pairs, check_weights, data_address
from .parsing import add_config, add_run_arguments, command_parser, flags

TASKS = ("detection", "segmentation", "classification")
EPILOG = """examples:
  pixpro-d2 finetune output/my_photos/model_final.pth --task detection --data voc:my_data@train --test voc:my_data@test
  pixpro-d2 finetune output/my_photos/model_final.pth --task segmentation --data semseg:images@labels"""
NEXT = """Next:
  pixpro-d2 report {folder}
  pixpro-d2 evaluate {folder} --test DATA"""


def build_parser() -> OptionsAnywhere:
    """Return the parser of the command line."""
    parser = command_parser("finetune", "Train a downstream task from pre-trained weights.", EPILOG)
    parser.add_argument("weights", metavar="WEIGHTS", help="checkpoint in any format, or weights of the package")
    parser.add_argument("--task", choices=TASKS, required=True)
    parser.add_argument(
        "--data",
        metavar="DATA",
        required=True,
        help="labelled data set: voc:DIR@SPLIT, coco:JSON@IMAGE_DIR, semseg:IMAGE_DIR@LABEL_DIR or classes:DIR",
    )
    parser.add_argument("--test", metavar="DATA", default="", help="labelled data set to evaluate on")
    add_config(parser, "--config", "", "config (default: one for task and network)")
    add_run_arguments(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line ``argv``; by default the command line of this process.

    Raises:
        UsageError: for a mistake in the command line.
    """
    args = build_parser().parse_args(argv)
    check_weights(args.weights)
    data, test = data_address(args.data), args.test and data_address(args.test)
    check_pairs(args.opts)
    if args.config:
        config_path(args.config)
    check_detectron2()
    from .planning import plan_fine_tuning, run_plan  # it loads PyTorch

    plan = plan_fine_tuning(
        args.weights,
        args.task,
        data,
        test,
        args.out,
        args.config,
        args.opts,
        args.num_gpus,
        flags(args.resume, args.allow_changes, args.dry_run),
    )
    run_plan(plan)
    if not args.dry_run:
        print(NEXT.format(folder=shlex.quote(str(plan.folder))), flush=True)
