"""Render a small synthetic data set.

``python -m pixpro_d2.tools.render OUT`` writes images of textured shapes on cluttered backgrounds, with boxes and
masks. The Pascal VOC and COCO layouts share one folder and its images. ``--layout`` adds the layouts of Cityscapes and
of ImageNet (one folder for each class).
"""

import argparse
from collections.abc import Sequence

from ..command_line import ShownDefaults, at_least, one_sentence, program
from ..extras.scenes.render_dataset import dataset_names, render_dataset
from ..extras.scenes.scene import KINDS
from ..extras.scenes.writers import WRITERS


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog=program("render"),
        description="Render a small synthetic data set.",
        formatter_class=ShownDefaults,
    )
    parser.add_argument("out", metavar="OUT", help="folder to make")
    parser.add_argument("--train", type=int, default=200, help="images to train on")
    parser.add_argument("--test", type=int, default=50, help="images to test on")
    parser.add_argument("--size", type=int, default=160, help="height and width of the images, pixels")
    parser.add_argument("--seed", type=at_least(0), default=0, help="seed of the scenes")
    parser.add_argument(
        "--layout", nargs="+", choices=WRITERS, default=["voc", "coco"], help="annotation files to write"
    )
    parser.add_argument("--plain", action="store_true", help="backgrounds without clutter: much easier to detect on")
    parser.add_argument(
        "--objects",
        choices=KINDS,
        default="shapes",
        help="shapes: only the outline tells the class; things: pattern and hue, too, much easier to learn",
    )
    return parser


@one_sentence
def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line ``argv``, by default the arguments of the process."""
    args = build_parser().parse_args(argv)
    written = render_dataset(
        args.out, args.train, args.test, args.size, args.seed, args.layout, not args.plain, args.objects
    )
    did = "wrote" if written else "nothing to do, it already holds"
    layouts = " and ".join(args.layout)
    print(f"{args.out}: {did} {args.train} train and {args.test} test images ({layouts} layout)")
    print("Names of its splits for train_net.py:")
    for split, count in (("train", args.train), ("test", args.test)):
        if count:
            print("".join(f"  {name}\n" for name in dataset_names(args.out, split, args.layout)), end="")


if __name__ == "__main__":
    main()
