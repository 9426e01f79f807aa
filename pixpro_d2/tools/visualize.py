"""Pictures of what pre-training sees.

python -m pixpro_d2.tools.visualize pairs --config-file configs/pretrain/pixpro_fpn.yaml --input my_photos

A sub-command is a function of the parsed arguments, listed in :func:`main`.
"""

import argparse
import math
import sys
from pathlib import Path

import numpy as np
import torch

from ..data.datasets.images import list_images
from ..data.loader import load_images
from ..data.mapper import TwoViewMapper
from ..data.reader import UnreadableImage, read_image
from ..engine.configure import load_config
from ..errors import UsageError
from ..modeling.correspondence import normalize_boxes, positive_pairs
from ..visualization.correspondence import describe, draw_correspondences

# Pixels of the view per bin of each feature of ResNet, of its FPN and of RegNet.
STRIDES = {f"res{i}": 2**i for i in range(2, 6)}
STRIDES |= {f"p{i}": 2**i for i in range(2, 7)}
STRIDES |= {f"s{i}": 2 ** (i + 1) for i in range(1, 5)}


def draw_sample(dataset_dict, cfg, level, rng):
    """Picture of the positive pairs of one random pair of views.

    Args:
        dataset_dict (dict): with ``file_name``.
        cfg (CfgNode): of a pre-training.
        level (str): feature whose grid is shown, a key of STRIDES.
        rng (numpy.random.Generator): chooses the views.

    Returns:
        PIL.Image.Image: see :func:`pixpro_d2.visualization.correspondence.draw_correspondences`.

    Raises:
        UsageError: for an unknown level, or a config that describes no views.
        UnreadableImage: see :func:`pixpro_d2.data.reader.read_image`.
    """
    if level not in STRIDES:
        raise UsageError(f"There is no level '{level}': choose from {', '.join(STRIDES)}.")
    sample = TwoViewMapper(cfg)(dataset_dict, rng)
    grid = (math.ceil(cfg.INPUT.PIXPRO.CROP_SIZE / STRIDES[level]),) * 2
    pixpro = cfg.MODEL.PIXPRO
    boxes = normalize_boxes(
        torch.from_numpy(sample["boxes"]),
        torch.tensor([sample["image_size"]] * 2),
        pixpro.DISTANCE_UNITS,
        pixpro.OFFICIAL_ROUNDING,
    )
    positives = positive_pairs(boxes[:1], boxes[1:], grid, grid, pixpro.POS_RATIO)[0].numpy()
    views = sample["views"][:, ::-1] if cfg.INPUT.FORMAT == "BGR" else sample["views"]
    return draw_correspondences(
        read_image(sample["file_name"]),
        views,
        sample["boxes"],
        positives,
        (grid, grid),
        caption=describe(positives, (grid, grid), pixpro.POS_RATIO),
    )


def pairs(args):
    """Two views of an image and their positive pairs; needs no model."""
    cfg = load_config(args.config_file, args.opts)
    level = args.level or cfg.MODEL.PIXPRO.IN_FEATURES[0]
    _write_pictures(args, cfg, lambda image, rng: draw_sample(image, cfg, level, rng))


def _write_pictures(args, cfg, draw):
    """Write ``draw(dataset_dict, rng)`` for the first ``args.count`` readable images, and print the paths."""
    args.output.mkdir(parents=True, exist_ok=True)
    written, unreadable = 0, None
    for number, image in enumerate(_images(args, cfg)):
        if written == args.count:
            break
        try:
            picture = draw(image, np.random.default_rng((args.seed, number)))
        except UnreadableImage as error:
            print(f"skipped {error}", file=sys.stderr)
            unreadable = error
            continue
        path = args.output / f"{args.command}_{number:03d}_{Path(image['file_name']).stem}.png"
        picture.save(path)
        print(path)
        written += 1
    if not written:
        raise UsageError(f"No image could be read, the last one is {unreadable}.")


def _images(args, cfg):
    """Dataset dicts of the images to show."""
    if args.input is None:
        return load_images(tuple(cfg.DATASETS.TRAIN))
    paths = [args.input] if Path(args.input).is_file() else list_images(args.input)
    return [{"file_name": path} for path in paths]


def _positive(text):
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is not positive")
    return value


def _add_command(commands, run):
    """Add the sub-command ``run``, named and described by the function, with the arguments that all have."""
    parser = commands.add_parser(run.__name__, help=run.__doc__, description=run.__doc__)
    parser.set_defaults(run=run)
    parser.add_argument("--config-file", required=True, metavar="FILE", help="config of a pre-training")
    parser.add_argument("--input", metavar="PATH", help="image or folder; by default DATASETS.TRAIN")
    output = Path("output", run.__name__)
    parser.add_argument("--output", type=Path, default=output, metavar="DIR", help=f"by default {output}")
    parser.add_argument("--count", type=_positive, default=4, metavar="N", help="images to draw, by default 4")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of all randomness, by default 0")
    parser.add_argument("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="config options, after the rest")
    return parser


def main(argv=None):
    """Run the command line ``argv``, by default that of the process."""
    parser = argparse.ArgumentParser(prog="python -m pixpro_d2.tools.visualize", description=__doc__.split("\n")[0])
    commands = parser.add_subparsers(required=True, dest="command", metavar="WHAT")
    command = _add_command(commands, pairs)
    command.add_argument("--level", help=f"feature whose grid is shown ({', '.join(STRIDES)}); by default the first "
                         "of MODEL.PIXPRO.IN_FEATURES")  # fmt: skip
    args = parser.parse_args(argv)
    try:
        args.run(args)
    except UsageError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
