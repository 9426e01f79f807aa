"""Picture of the positive pairs of two views of a video: two frames, and how the flow moves bins between them."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from PIL import Image

from .correspondence import (
    ORIGINAL_SIDE,
    VIEW_COLOURS,
    VIEW_SIDE,
    WIDTH,
    Grids,
    choose_queries,
    draw_views,
    label_crops,
    write_crops,
)
from .figures import GAP, LINE, MARGIN, add_image, fit, new_figure, palette, shorten, text_block, to_image
from .flow import draw_paths
from .labels import upright
from .marks import draw_box
from .tracks import Tracks

FRAME = ((WIDTH - 3 * MARGIN) // 2, 430)  # width and height that each frame is fitted into


def draw_video_pairs(
    frames: Sequence[Image.Image],
    names: Sequence[str],
    views: Sequence[Image.Image],
    boxes: np.ndarray,
    tracks: Tracks,
    positives: np.ndarray,
    grids: Grids,
    caption: str,
    max_lines: int = 12,
) -> Image.Image:
    """Draw both frames with their crops and the bins of view 1, both views with their grids, and lines between pairs.

    Some bins of view 1 are marked in a colour of their own: in view 1, in its frame, and in the other frame, where the
    flow moves them. Lines lead from these bins to all their positives in view 2. For the other bins, small dots show
    the centres and where the flow moves them, or crosses if the flow is not valid.

    Args:
        frames: frames of view 1 and of view 2, RGB, of one size.
        names: names of the frames.
        views, boxes, positives, grids: as in :func:`pixpro_d2.visualization.correspondence.draw_correspondences`,
            each box in pixels of its own frame.
        tracks: tracks of the centres of all bins of view 1 to the second frame.
        caption: text beside the views.
        max_lines: maximum number of bins of view 1 whose lines are drawn.

    Returns:
        A picture WIDTH pixels wide.
    """
    queries = choose_queries(positives, grids[0], max_lines)
    size = fit(frames[0], *FRAME)
    top = MARGIN + LINE + size[1] + MARGIN + LINE  # upper edge of the views, below their titles
    figure = new_figure(WIDTH, top + VIEW_SIDE + MARGIN)
    for i in range(2):
        title = shorten(f"view {i + 1}'s frame: {names[i]}", FRAME[0])
        axes = add_image(figure, frames[i], (MARGIN + i * (FRAME[0] + MARGIN), MARGIN), size, title, VIEW_COLOURS[i])
        _draw_tracks(axes, i, boxes, tracks, queries)
    write_crops(figure, boxes, top)
    draw_views(figure, views, boxes, top, positives, grids, queries)
    picture = to_image(figure)
    text = text_block(_explain(caption, len(queries)), ORIGINAL_SIDE + 2 * MARGIN)
    picture.paste(text.crop((0, 0, ORIGINAL_SIDE + MARGIN, text.height)), (0, top + 2 * LINE + GAP))
    return picture


def _draw_tracks(axes: Axes, number: int, boxes: np.ndarray, tracks: Tracks, queries: np.ndarray) -> None:
    """Draw view 1's crop and bins in frame 0, or view 2's crop and the moved bins in frame 1."""
    draw_box(axes, upright(boxes[number]), VIEW_COLOURS[number], 3)
    places = (tracks.starts, tracks.ends)[number]
    others = np.setdiff1d(np.arange(len(tracks.valid)), queries)
    # Only marked bins get a line, because lines for all bins would cover the frame.
    still = Tracks(places[others], places[others], tracks.valid[others])
    scale = axes.get_window_extent().width / axes.get_xlim()[1]
    spacing = scale * np.sqrt((np.ptp(tracks.starts, axis=0) + 1).prod() / len(tracks.valid))
    draw_paths(axes, still, still.starts, [VIEW_COLOURS[0]] * len(others), radius=min(2.0, 0.2 * spacing))
    marked = Tracks(tracks.starts[queries], tracks.ends[queries], tracks.valid[queries])
    draw_paths(axes, marked, places[queries], palette(len(queries)), radius=5)
    label_crops(axes, [number], boxes, places[queries], 7)


def _explain(caption: str, marked: int) -> list[str]:
    """Return the paragraphs of the column beside the views."""
    paragraphs = [
        caption,
        "",
        "Dots are the centres of view 1's bins, and where the flow moves them; crosses are rejected ones.",
    ]
    if marked:
        bins = "1 bin has a colour" if marked == 1 else f"{marked} bins have a colour each"
        way = "the line in both frames is its way from the first to the second"
        paragraphs += ["", f"{bins}: {way}, those between the views lead to all its positives."]
    return paragraphs
