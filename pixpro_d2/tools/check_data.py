"""Check a data set before training on it.

python -m pixpro_d2.tools.check_data NAME [--all] [--pictures DIR] [--flow DIR] [--problems FILE]
                                         [--pixel-range LOW HIGH] [--max-image-pixels N]

NAME is a folder or an archive of images, or a value of DATASETS.TRAIN or TEST: a registered name, or an address such as
voc:DIR@SPLIT. The command prints the number and sizes of the images, channels and pages that are not read, the
frequency of each class, the NUM_CLASSES to set, and the problems:

* missing or unreadable files, and sizes that differ;
* labels that training or evaluation would fail at or skip;
* images of more than 8 bits that use little of their range, or lie outside --pixel-range;
* images so long that their views are often the same crop.

A detector or segmentation checks files, sizes and labels likewise when it starts, but decodes no images. For videos,
the command also prints the lengths. With --flow, it also prints which videos have no optical flow of their own. It
exits with 1 if there are problems."""

import argparse
import io
import sys
from collections.abc import Sequence

from ..command_line import add_reading, one_sentence, program


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(prog=program("check-data"), description="Check a data set before training on it.")
    parser.add_argument("name", metavar="NAME", help="folder of images, or a data set such as voc:DIR@SPLIT")
    parser.add_argument("--all", action="store_true", help="decode all images, not only 200 evenly spaced ones")
    parser.add_argument("--pictures", metavar="DIR", help="write the first images with their labels to this folder")
    parser.add_argument(
        "--flow", metavar="DIR", help="for videos: folder of their flow to check, as in MODEL.PIXPRO.FLOW.FILES"
    )
    parser.add_argument("--problems", metavar="FILE", help="write all problems to this file, one a line")
    add_reading(parser)
    return parser


@one_sentence
def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line ``argv``, by default the arguments of the process."""
    args = build_parser().parse_args(argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal may not know all characters of a file's name
    from detectron2.utils.logger import setup_logger  # these load PyTorch

    from ..config import default_config
    from ..data.io.reader import restrict_pillow
    from ..extras.data_check import check_data

    setup_logger(name="pixpro_d2")
    restrict_pillow(args.max_image_pixels or default_config().DATALOADER.MAX_IMAGE_PIXELS)
    problems = check_data(args.name, args.all, args.pictures, args.flow, tuple(args.pixel_range), args.problems)
    print(f"{problems} problems" if problems else "no problems found")
    sys.exit(1 if problems else 0)


if __name__ == "__main__":
    main()
