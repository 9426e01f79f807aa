"""The picture of the optical flow between the two frames of a sample of a video."""

import math
from typing import Any

from PIL import Image

from .flow import draw_flow
from .tracks import corner_points, follow, pixel_centers
from .views import ViewSource

POINTS = 126  # approximate number of points whose paths are drawn


def picture_flow(source: ViewSource, video: dict[str, Any], sample: dict[str, Any]) -> Image.Image:
    """Draw the flow from one frame of a video to another, and the vectors that training keeps; needs no model.

    Args:
        source: draws views of videos, with ``n_frames`` > 1.
        video: dict of :func:`pixpro_d2.data.datasets.video.load_videos`.
        sample: result of the source's mapper.

    Returns:
        The picture of :func:`pixpro_d2.visualization.flow.draw_flow`.

    Raises:
        UsageError: if the flow is missing or cannot be estimated.
        UnreadableImage: see :func:`pixpro_d2.data.io.reader.read_image`.
    """
    correspondence = source.correspondence
    motion = source.geometry(sample).motion
    frames = source.frames(video, sample)
    images = [frame.image for frame in frames]
    origin = "out of files" if correspondence.estimator is None else f"by {correspondence.estimator.name}"
    cell = math.sqrt(images[0].width * images[0].height / POINTS)
    columns, rows = (max(1, round(side / cell)) for side in images[0].size)
    return draw_flow(
        images,
        [frame.name for frame in frames],
        follow(pixel_centers(images[0].size), motion, correspondence),
        follow(corner_points(images[0], (columns, rows)), motion, correspondence),
        source.n_frames - 1,
        f"{video['video']}, flow {origin}",
    )
