"""The picture of the positive pairs of a sample: of an image, or of two frames of a video."""

import math
from typing import Any

import torch
from PIL import Image

from ..modeling.pretrain.correspondence import bin_centers
from ..utils.errors import UsageError
from .correspondence import describe, draw_correspondences
from .flow import describe as describe_motion
from .tracks import follow
from .video_pairs import draw_video_pairs
from .views import ViewSource

# Pixels of the view per bin of each feature of ResNet and timm's networks, of their pyramid, and of RegNet.
STRIDES = {f"res{i}": 2**i for i in range(2, 6)}
STRIDES |= {f"p{i}": 2**i for i in range(2, 8)}
STRIDES |= {f"s{i}": 2 ** (i + 1) for i in range(1, 5)}


def stride_of(level: str) -> int:
    """Return the pixels of the view per bin of a feature, without a model.

    Raises:
        UsageError: for a feature whose name does not tell its stride, such as last_feat.
    """
    if level not in STRIDES:
        raise UsageError(f"There is no level '{level}' of a known stride: choose --level from {', '.join(STRIDES)}.")
    return STRIDES[level]


def picture_pairs(source: ViewSource, dataset_dict: dict[str, Any], sample: dict[str, Any], stride: int) -> Image.Image:
    """Draw the positive pairs of two views; needs no model.

    Args:
        source: source of the sample.
        dataset_dict: dict of the image, or of the video.
        sample: result of the source's mapper.
        stride: pixels of the view per bin of the grid that is shown.

    Returns:
        The picture of :func:`pixpro_d2.visualization.correspondence.draw_correspondences`; for two frames
        :func:`pixpro_d2.visualization.video_pairs.draw_video_pairs`.
    """
    geometry = source.geometry(sample)
    views = source.images(sample)
    bins = math.ceil(views[0].height / stride)
    grids = ((bins, bins), (bins, bins))
    positives = source.correspondence(geometry, grids)[0][0].cpu().numpy()
    caption = describe(positives, grids, source.correspondence.pos_ratio)
    frames = source.frames(dataset_dict, sample)
    if len(frames) == 1:
        return draw_correspondences(frames[0].image, views, sample["boxes"], positives, grids, caption=caption)
    centers = bin_centers(torch.from_numpy(sample["boxes"][:1]), grids[0])[0].numpy()
    tracks = follow(centers, geometry.motion, source.correspondence)
    return draw_video_pairs(
        [frame.image for frame in frames],
        [frame.name for frame in frames],
        views,
        sample["boxes"],
        tracks,
        positives,
        grids,
        f"{caption} Of the centres of view 1's bins {describe_motion(tracks)}",
    )
