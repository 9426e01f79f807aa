"""Turn the arguments of the command line into a config, images, and files to write."""

import argparse
import math
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import torch
from detectron2.config import CfgNode
from PIL import Image

from ...config import is_pretraining, with_values
from ...data.datasets.catalog import is_name
from ...data.datasets.images import list_images
from ...data.io.reader import restrict_pillow
from ...data.pretrain.samples import dataset_name, load_samples
from ...engine.configuration.configure import command_config, resolve_sync_bn
from ...utils.archives import is_archive
from ...utils.errors import UnreadableImage, UsageError
from ...utils.files import report_write_errors

Made = TypeVar("Made")


def load_pictures_config(args: argparse.Namespace) -> CfgNode:
    """Load the config of the arguments, on the CPU if there is no GPU.

    Raises:
        UsageError: if the config has a mistake.
    """
    cfg = command_config(args)
    restrict_pillow(cfg.DATALOADER.MAX_IMAGE_PIXELS)
    resolve_sync_bn(cfg)
    if not torch.cuda.is_available():
        cfg.MODEL.DEVICE = "cpu"
    return cfg


def load_pretraining_config(args: argparse.Namespace) -> CfgNode:
    """Load the config as :func:`load_pictures_config`; check that it is a pre-training with a pixel loss."""
    cfg = load_pictures_config(args)
    if not is_pretraining(cfg) or not cfg.MODEL.PIXPRO.IN_FEATURES:
        raise UsageError(
            f"{args.config_file} has no pixel-level pre-training, which `{args.command}` shows: choose from "
            "configs/pretrain."
        )
    return cfg


def images_of(args: argparse.Namespace, cfg: CfgNode) -> list[dict[str, Any]]:
    """Return the dataset dicts of the images or videos to show; repeat videos until there are ``args.count``."""
    is_path = args.input is not None and not is_name(args.input) and not is_archive(args.input)
    if is_path and not os.path.exists(args.input):
        raise UsageError(f"There is no image or folder {os.path.abspath(args.input)}.")
    if is_path and not cfg.INPUT.PIXPRO.N_FRAMES:
        paths = [args.input] if os.path.isfile(args.input) else list_images(args.input)
        return [{"file_name": path} for path in paths]
    if args.input is not None:
        cfg = with_values(cfg, {"DATASETS.TRAIN": (dataset_name(cfg, args.input),)})
    samples = list(load_samples(cfg))
    return samples * math.ceil(args.count / len(samples)) if cfg.INPUT.PIXPRO.N_FRAMES else samples


def first_readable(
    args: argparse.Namespace,
    images: Iterable[dict[str, Any]],
    make: Callable[[int, dict[str, Any]], Made],
) -> Iterator[tuple[int, dict[str, Any], Made]]:
    """Yield (number, image, ``make(number, image)``) of the first ``args.count`` readable images.

    Raises:
        UsageError: if no image is readable.
    """
    found = 0
    unreadable = None
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


def write_picture(args: argparse.Namespace, picture: Image.Image, name: str | None = None) -> None:
    """Save a picture as ``COMMAND_NAME.png``, or without a name ``COMMAND.png``, and print its path."""
    path = args.output / f"{'_'.join(filter(None, (args.command, name)))}.png"
    with report_write_errors(str(path)):
        args.output.mkdir(parents=True, exist_ok=True)
        picture.save(path)
    print(path)


def name_of(number: int, image: dict[str, Any]) -> str:
    """Return the name of the picture of an image."""
    return f"{number:03d}_{Path(image['file_name']).stem}"
