"""Write the features of images, for a search for similar images or for other models.

python -m pixpro_d2.tools.embed my_photos features.npy --weights output/my_photos/model_final.pth

The first row belongs to the first name in features.txt, and so on. ``--pool none`` writes maps in place of vectors.
"""

import argparse
from collections.abc import Sequence

from ..command_line import at_least, positive, program
from ..commands.checks import check_weights, data_address
from ..utils.errors import UsageError


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog=program("embed"), description="Write the features of images, one row for each image."
    )
    add = parser.add_argument
    add("data", metavar="DATA", help="folder of images, or a data set such as voc:DIR@SPLIT")
    add("out", metavar="OUT", help="OUT.npy, with the names of the images in OUT.txt, or OUT.parquet")
    add("--weights", required=True, metavar="FILE", help="checkpoint, in any format that MODEL.WEIGHTS takes")
    add("--feature", default="", metavar="NAME", help="such as res4 or p3 (default: the last one below an FPN)")
    add("--pool", choices=("mean", "none"), default="mean", help="a vector or a map of each image (default: mean)")
    add("--size", type=positive, default=224, metavar="N", help="side of the centre of an image (default: 224)")
    add("--batch", type=positive, default=32, metavar="N", help="images at a time (default: 32)")
    add("--workers", type=at_least(0), metavar="N", help="processes that read images (default: 1; on a GPU, all cores)")
    add("--device", choices=("cuda", "cpu"), default="", help="default: a GPU if there is one")
    add("--half", action="store_true", help="write float16 in place of float32")
    add("--branch", choices=("online", "target"), default="online", help="default: online")
    add("--config-file", default="", metavar="FILE", help="config of the network (default: beside the checkpoint)")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line ``argv``, by default the arguments of the process."""
    args = vars(build_parser().parse_args(argv))
    try:
        check_weights(args["weights"])
        data, out, weights = data_address(args.pop("data"), scheme="images"), args.pop("out"), args.pop("weights")
        from ..commands.machine import this_machine  # these load PyTorch
        from ..commands.recipe import choose_workers
        from ..extras.deployment.embedding import embed

        if args["workers"] is None:
            args["workers"] = choose_workers(1, this_machine(args["device"], 1))
        count, shape, unreadable = embed(data, out, weights, **args)
    except UsageError as error:
        raise SystemExit(f"error: {error}") from None
    missing = f"; {unreadable} images cannot be read, and their rows are NaN" if unreadable else ""
    print(f"{out}: {count} images, {' x '.join(map(str, shape))} values each{missing}")


if __name__ == "__main__":
    main()
