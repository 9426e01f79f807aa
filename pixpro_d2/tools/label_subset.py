"""Write random subsets of a COCO annotation file, to train with few labels or to split a file for training and test.

python -m pixpro_d2.tools.label_subset coco/annotations/instances_train2017.json coco/annotations --percent 1 10

This command writes instances_train2017_1pct.json and instances_train2017_10pct.json. The choice of images depends only
on the image ids and the seed. A smaller subset lies within every larger subset of the same seed. With --percent 20
--rest it writes _20pct.json and _20pct_rest.json, which share no image.
"""

import argparse
from collections.abc import Sequence

from ..command_line import at_least, one_sentence, program


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog=program("label-subset"), description="Random subsets of a COCO annotation file."
    )
    parser.add_argument("json_file", metavar="INSTANCES.json", help="annotation file in COCO's format")
    parser.add_argument("out_dir", metavar="OUT_DIR", help="folder for the subsets, made if there is none")
    parser.add_argument("--percent", type=float, nargs="+", required=True, metavar="P", help="sizes, e.g. 1 10")
    parser.add_argument("--seed", type=at_least(0), default=0, help="seed of the draw, by default 0")
    parser.add_argument("--rest", action="store_true", help="write the other images of each subset too, as _rest.json")
    return parser


@one_sentence
def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line ``argv``, by default the arguments of the process."""
    args = build_parser().parse_args(argv)
    from ..data.datasets.label_subset import write_subsets  # it loads PyTorch

    written = write_subsets(args.json_file, args.out_dir, args.percent, args.seed, args.rest)
    for path, images, annotations in written:
        print(f"{path}: {images} images, {annotations} annotations")


if __name__ == "__main__":
    main()
