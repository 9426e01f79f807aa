"""What the arguments of the command line stand for: config, images, files to write."""

import math
import os
import sys
from pathlib import Path

import torch

from ...config import is_pretraining
from ...data.datasets.catalog import is_name
from ...data.datasets.images import list_images
from ...data.io.reader import UnreadableImage, restrict_pillow
from ...data.pretrain.samples import dataset_name, load_samples
from ...engine.configure import command_config, resolve_sync_bn
from ...utils.errors import UsageError


def load_pictures_config(args):
    """The config of the arguments, on whatever device there is.

    Raises:
        UsageError: for a mistake in it.
    """
    cfg = command_config(args)
    restrict_pillow(cfg.DATALOADER.MAX_IMAGE_PIXELS)
    resolve_sync_bn(cfg)
    if not torch.cuda.is_available():
        cfg.MODEL.DEVICE = "cpu"
    return cfg


def load_pretraining_config(args):
    """As :func:`load_pictures_config`; it must be one of a pre-training with a pixel loss."""
    cfg = load_pictures_config(args)
    if not is_pretraining(cfg) or not cfg.MODEL.PIXPRO.IN_FEATURES:
        raise UsageError(
            f"{args.config_file} has no pixel-level pre-training, which `{args.command}` shows: choose from "
            "configs/pretrain."
        )
    return cfg


def images_of(args, cfg):
    """Dataset dicts of the images to show, or of the videos, which are repeated until there are ``args.count``."""
    is_path = args.input is not None and not is_name(args.input)
    if is_path and not os.path.exists(args.input):
        raise UsageError(f"There is no image or folder {os.path.abspath(args.input)}.")
    if is_path and not cfg.INPUT.PIXPRO.N_FRAMES:
        paths = [args.input] if os.path.isfile(args.input) else list_images(args.input)
        return [{"file_name": path} for path in paths]
    if args.input is not None:
        cfg = cfg.clone()
        cfg.DATASETS.TRAIN = (dataset_name(cfg, args.input),)
    samples = load_samples(cfg)
    return samples * math.ceil(args.count / len(samples)) if cfg.INPUT.PIXPRO.N_FRAMES else samples


def first_readable(args, images, make):
    """(number, image, ``make(number, image)``) of the first ``args.count`` images that can be read, one by one.

    Raises:
        UsageError: if none can.
    """
    found, unreadable = 0, None
    for number, image in enumerate(images):
        if found == args.count:
            return
        try:
            made = make(number, image)
        except UnreadableImage as error:
            print(f"skipped {error}", file=sys.stderr)
            unreadable = error
            continue
        found += 1
        yield number, image, made
    if not found:
        raise UsageError(f"No image could be read, the last one is {unreadable}.")


def write_picture(args, picture, name=None):
    """Save a picture as ``COMMAND_NAME.png``, or without a name ``COMMAND.png``, and print its path."""
    args.output.mkdir(parents=True, exist_ok=True)
    path = args.output / f"{'_'.join(filter(None, (args.command, name)))}.png"
    picture.save(path)
    print(path)


def name_of(number, image):
    """How the picture of an image is called."""
    return f"{number:03d}_{Path(image['file_name']).stem}"
