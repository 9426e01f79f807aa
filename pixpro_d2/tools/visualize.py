"""Pictures of the data, before a model is trained on them.

python -m pixpro_d2.tools.visualize pairs --config-file configs/pretrain/pixpro_fpn.yaml --input my_photos
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
from ..data.reader import read_image
from ..engine.configure import load_config
from ..errors import UsageError
from ..modeling.correspondence import normalize_boxes, positive_pairs
from ..visualization.correspondence import draw_correspondences

STRIDES = {f"{kind}{level}": 2**level for kind in ("res", "p") for level in (2, 3, 4, 5, 6)}


def draw_sample(dataset_dict, cfg, level, rng):
    """Picture of the positive pairs of one random pair of views.

    Args:
        dataset_dict (dict): with ``file_name``.
        cfg (CfgNode): of a pre-training.
        level (str): feature whose grid is shown: res2 .. res5 or p2 .. p6.
        rng (numpy.random.Generator): chooses the views.
    """
    if level not in STRIDES:
        raise UsageError(f"There is no level '{level}': choose from {', '.join(STRIDES)}.")
    sample = TwoViewMapper(cfg)(dataset_dict, rng)
    grid = (math.ceil(cfg.INPUT.PIXPRO.CROP_SIZE / STRIDES[level]),) * 2
    pixpro = cfg.MODEL.PIXPRO
    sizes = torch.tensor([sample["image_size"]])
    boxes = [
        normalize_boxes(torch.from_numpy(box)[None], sizes, pixpro.DISTANCE_UNITS, pixpro.OFFICIAL_ROUNDING)
        for box in sample["boxes"]
    ]
    positives = positive_pairs(*boxes, grid, grid, pixpro.POS_RATIO)[0].numpy()
    views = sample["views"].transpose(0, 2, 3, 1)
    views = views[..., ::-1] if cfg.INPUT.FORMAT == "BGR" else np.broadcast_to(views, (*views.shape[:3], 3))
    return draw_correspondences(
        read_image(sample["file_name"]), np.ascontiguousarray(views), sample["boxes"], positives, grid, pixpro.POS_RATIO
    )


def pairs(args):
    """Write one picture of positive pairs for each of some images."""
    cfg = load_config(args.config_file, args.opts)
    if args.input is None:
        images = load_images(tuple(cfg.DATASETS.TRAIN))[: args.count]
    else:
        paths = [args.input] if Path(args.input).is_file() else list_images(args.input)
        images = [{"file_name": path} for path in paths[: args.count]]
    args.output.mkdir(parents=True, exist_ok=True)
    for number, image in enumerate(images):
        level = args.level or cfg.MODEL.PIXPRO.IN_FEATURES[0]
        picture = draw_sample(image, cfg, level, np.random.default_rng((args.seed, number)))
        path = args.output / f"pairs_{number:03d}_{Path(image['file_name']).stem}.png"
        picture.save(path)
        print(path)


def main(argv=None):
    """Run the command line ``argv``, by default that of the process."""
    parser = argparse.ArgumentParser(prog="python -m pixpro_d2.tools.visualize", description="Pictures of the data.")
    commands = parser.add_subparsers(required=True, metavar="WHAT")
    command = commands.add_parser("pairs", help="two views of an image and their positive pairs; needs no model")
    command.set_defaults(run=pairs)
    command.add_argument("--config-file", required=True, metavar="FILE", help="config of a pre-training")
    command.add_argument("--input", metavar="PATH", help="image or folder; by default DATASETS.TRAIN")
    command.add_argument(
        "--output", type=Path, default=Path("output/pairs"), metavar="DIR", help="folder for the pictures"
    )
    command.add_argument("--count", type=int, default=4, help="number of images")
    command.add_argument("--level", help="feature whose grid is shown, e.g. p4; by default the first with a loss")
    command.add_argument("--seed", type=int, default=0, help="seed of the views")
    command.add_argument("opts", nargs=argparse.REMAINDER, metavar="KEY VALUE", help="config options")
    args = parser.parse_args(argv)
    try:
        args.run(args)
    except UsageError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
