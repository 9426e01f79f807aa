"""The sub-commands that need no model: a look at the data, and at what training sees of them."""

import math

import numpy as np

from ...errors import UsageError
from ...visualization.flow import draw_flow
from ...visualization.pairs import picture_pairs
from ...visualization.tracks import corner_points, follow, pixel_centers
from ...visualization.views import ViewSource
from .inputs import first_readable, images_of, load_pretraining_config, name_of, write_picture

POINTS = 126  # whose paths are drawn, about


def pairs(args):
    """Two views of an image, or of two frames of a video, and their positive pairs; needs no model."""
    cfg = load_pretraining_config(args)
    level = args.level or cfg.MODEL.PIXPRO.IN_FEATURES[0]
    source = ViewSource(cfg)

    def draw(number, image):
        sample = source.mapper(image, np.random.default_rng((args.seed, number)))
        return picture_pairs(source, image, sample, level)

    for number, image, picture in first_readable(args, images_of(args, cfg), draw):
        write_picture(args, picture, name_of(number, image))


def flow(args):
    """The optical flow between the ends of runs of video frames, and what training keeps of it; needs no model."""
    cfg = load_pretraining_config(args)
    if cfg.INPUT.PIXPRO.N_FRAMES < 2:
        raise UsageError(
            f"INPUT.PIXPRO.N_FRAMES is {cfg.INPUT.PIXPRO.N_FRAMES}, but flow is between 2 frames of a video or more: "
            "take the config of a pre-training on videos, or add `INPUT.PIXPRO.N_FRAMES 6`."
        )
    source = ViewSource(cfg)

    def draw(number, video):
        return picture_flow(source, video, np.random.default_rng((args.seed, number)))

    for number, video, picture in first_readable(args, images_of(args, cfg), draw):
        write_picture(args, picture, name_of(number, video))


def picture_flow(source, video, rng):
    """Picture of the flow through one random run of a video's frames.

    Args:
        source (ViewSource): of videos.
        video (dict): of :func:`pixpro_d2.data.datasets.video.load_videos`.
        rng (numpy.random.Generator): chooses the run.

    Returns:
        PIL.Image.Image: see :func:`pixpro_d2.visualization.flow.draw_flow`.

    Raises:
        UsageError: for flow that cannot be had.
        UnreadableImage: see :func:`pixpro_d2.data.reader.read_image`.
    """
    correspondence = source.correspondence
    sample = source.mapper(video, rng)
    motion = source.geometry(sample).motion
    frames = source.frames(video, sample)
    images = [frame.image for frame in frames]
    origin = "out of files" if correspondence.estimator is None else f"by {correspondence.estimator.name}"
    cell = math.sqrt(images[0].width * images[0].height / POINTS)
    cells = [max(1, round(side / cell)) for side in images[0].size]
    return draw_flow(
        images,
        [frame.name for frame in frames],
        follow(pixel_centers(images[0].size), motion, correspondence),
        follow(corner_points(images[0], cells), motion, correspondence),
        source.n_frames - 1,
        f"{video['video']}, flow {origin}",
    )
