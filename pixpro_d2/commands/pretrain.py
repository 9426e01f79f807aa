"""Run ``pixpro-d2 pretrain``: pre-train on images in a folder or archives, and choose all other settings."""

import shlex
from collections.abc import Sequence

from ..command_line import OptionsAnywhere
from ..config_files import config_path
from .checks import check_detectron2, check_pairs, data_address
from .parsing import add_config, add_run_arguments, command_parser, flags

EPILOG = """examples:
  pixpro-d2 pretrain my_photos
  pixpro-d2 pretrain photos.zip
  pixpro-d2 pretrain "shards/{0000..0099}.tar"
  pixpro-d2 pretrain my_photos --recipe pretrain/pixpro_c5_100ep --out output/c5 SOLVER.MAX_ITER 20000
  pixpro-d2 pretrain video:my_frames"""
NEXT = """Next:
  pixpro-d2 report {folder}
  pixpro-d2 finetune {folder}/model_final.pth --task detection --data voc:DIR@train --test voc:DIR@test"""


def build_parser() -> OptionsAnywhere:
    """Return the parser of the command line."""
    parser = command_parser("pretrain", "Pre-train a network on images without labels.", EPILOG)
    parser.add_argument(
        "data", metavar="DATA", help="folder, zip or tar file of images, or a data set such as video:DIR"
    )
    add_config(parser, "--recipe", "auto", "config, such as pretrain/quickstart")
    add_run_arguments(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line ``argv``; by default the command line of this process.

    Raises:
        UsageError: for a mistake in the command line.
    """
    args = build_parser().parse_args(argv)
    data = data_address(args.data, scheme="images")
    check_pairs(args.opts)
    if args.recipe != "auto":
        config_path(args.recipe)
    check_detectron2()
    from .planning import plan_pretraining, run_plan  # it loads PyTorch

    plan = plan_pretraining(
        data, args.out, args.recipe, args.opts, args.num_gpus, flags(args.resume, args.allow_changes, args.dry_run)
    )
    run_plan(plan)
    if not args.dry_run:
        print(NEXT.format(folder=shlex.quote(str(plan.folder))), flush=True)
