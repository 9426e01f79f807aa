"""Define the sub-commands that need no model: they show the data as training sees them."""

import argparse
from typing import Any

import numpy as np
from detectron2.config import CfgNode
from PIL import Image

from ...utils.errors import UsageError
from ...visualization.motion import picture_flow
from ...visualization.pairs import picture_pairs, stride_of
from ...visualization.views import ViewSource
from .inputs import first_readable, images_of, load_pretraining_config, name_of, write_picture


def pairs(args: argparse.Namespace) -> None:
    """Show two views of an image, or of two frames of a video, and their positive pairs; needs no model."""
    cfg = load_pretraining_config(args)
    pixels = stride(cfg, args.level or cfg.MODEL.PIXPRO.IN_FEATURES[0])
    source = ViewSource(cfg)

    def draw(number: int, image: dict[str, Any]) -> Image.Image:
        sample = source.mapper(image, np.random.default_rng((args.seed, number)))
        return picture_pairs(source, image, sample, pixels)

    for number, image, picture in first_readable(args, images_of(args, cfg), draw):
        write_picture(args, picture, name_of(number, image))


def stride(cfg: CfgNode, level: str) -> int:
    """Return the pixels of the view per bin of a level; a dilated stage keeps the stride of the stage before it."""
    name, resnets, pixels = cfg.MODEL.BACKBONE.NAME, cfg.MODEL.RESNETS, stride_of(level)
    if "timm" in name:
        return min(pixels, cfg.MODEL.TIMM.OUTPUT_STRIDE) if level.startswith("res") else pixels
    if "resnet" not in name or level not in ("res4", "res5"):
        return pixels
    dilated = "deeplab" in name and resnets.RES4_DILATION > 1, level == "res5" and resnets.RES5_DILATION > 1
    return pixels // 2 ** sum(dilated)


def flow(args: argparse.Namespace) -> None:
    """Show the optical flow between the ends of runs of video frames, and the part that training uses."""
    cfg = load_pretraining_config(args)
    if cfg.INPUT.PIXPRO.N_FRAMES < 2:
        raise UsageError(
            f"INPUT.PIXPRO.N_FRAMES is {cfg.INPUT.PIXPRO.N_FRAMES}, but flow is between 2 frames of a video or more: "
            "take the config of a pre-training on videos, or add `INPUT.PIXPRO.N_FRAMES 6`."
        )
    source = ViewSource(cfg)

    def draw(number: int, video: dict[str, Any]) -> Image.Image:
        return picture_flow(source, video, source.mapper(video, np.random.default_rng((args.seed, number))))

    for number, video, picture in first_readable(args, images_of(args, cfg), draw):
        write_picture(args, picture, name_of(number, video))
