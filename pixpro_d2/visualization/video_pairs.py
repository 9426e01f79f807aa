"""Picture of the positive pairs of two views of a video: two frames, and how the flow moves bins between them."""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from .canvas import GAP, LINE, MARGIN, Canvas, Colour, fit, palette, shorten, wrap
from .correspondence import (
    ORIGINAL_SIDE,
    VIEW_COLOURS,
    VIEW_SIDE,
    WIDTH,
    Grids,
    choose_queries,
    draw_crop_legend,
    draw_pairs,
    draw_view,
    view_name,
)
from .flow import draw_paths
from .labels import draw_labels
from .sheet import tile_canvas
from .tracks import Tracks

FRAME = ((WIDTH - 3 * MARGIN) // 2, 430)  # width and height that each frame is fitted into


def draw_video_pairs(
    frames: Sequence[Image.Image],
    names: Sequence[str],
    views: Sequence[np.ndarray],
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
    colours = palette(len(queries))
    frame_height = round(frames[0].height * fit(frames[0], *FRAME))
    top = MARGIN + LINE + frame_height + MARGIN + LINE  # upper edge of the views, below their titles
    canvas = Canvas(WIDTH, top + VIEW_SIDE + MARGIN)
    _write_legend(canvas, top, boxes, caption, len(queries))
    corners = [(ORIGINAL_SIDE + 2 * MARGIN + i * (VIEW_SIDE + MARGIN), top) for i in range(2)]
    for i, corner in enumerate(corners):
        canvas.text(corner[0], top - LINE, view_name(i, boxes[i]), VIEW_COLOURS[i])
        draw_view(canvas, views[i], corner, grids[i], VIEW_COLOURS[i])
    draw_pairs(canvas, corners, positives, grids, queries, colours)
    places = [(MARGIN + i * (FRAME[0] + MARGIN), MARGIN) for i in range(2)]
    for i, (x, y) in enumerate(places):
        canvas.text(x, y, shorten(f"view {i + 1}'s frame: {names[i]}", FRAME[0]), VIEW_COLOURS[i])
    picture = canvas.finish()
    for i, (x, y) in enumerate(places):
        picture.paste(_draw_frame(i, frames[i], boxes[i], tracks, queries, colours), (x, y + LINE))
    return picture


def _draw_frame(
    number: int, frame: Image.Image, box: np.ndarray, tracks: Tracks, queries: np.ndarray, colours: Sequence[Colour]
) -> Image.Image:
    """Draw frame 0 with view 1's crop and bins, or frame 1 with view 2's crop and the moved bins."""
    scale, canvas = fit(frame, *FRAME), tile_canvas(frame, *FRAME)
    (left, right), (upper, lower) = sorted(box[[0, 2]]), box[[1, 3]]
    corners = (left * scale, upper * scale, right * scale, lower * scale)
    canvas.box(corners, VIEW_COLOURS[number], 3)
    places = (tracks.starts, tracks.ends)[number]
    others = np.setdiff1d(np.arange(len(tracks.valid)), queries)
    # Only marked bins get a line, because lines for all bins would cover the frame.
    still = Tracks(places[others], places[others], tracks.valid[others])
    spacing = scale * np.sqrt((np.ptp(tracks.starts, axis=0) + 1).prod() / len(tracks.valid))
    draw_paths(canvas, still, still.starts, scale, [VIEW_COLOURS[0]] * len(others), radius=min(2.0, 0.2 * spacing))
    marked = Tracks(tracks.starts[queries], tracks.ends[queries], tracks.valid[queries])
    draw_paths(canvas, marked, places[queries], scale, colours, radius=5)
    labels = [(f"view {number + 1}", corners, VIEW_COLOURS[number])]
    dots = [(x - 7, y - 7, x + 7, y + 7) for x, y in places[queries] * scale]
    draw_labels(canvas, labels, (0, 0, *canvas.size), avoid=dots)
    return canvas.finish()


def _write_legend(canvas: Canvas, top: int, boxes: np.ndarray, caption: str, marked: int) -> None:
    """Write the sizes of the crops and the caption, in the column beside the views."""
    draw_crop_legend(canvas, boxes, top)
    y = top + len(boxes) * LINE
    paragraphs = [
        caption,
        "Dots are the centres of view 1's bins, and where the flow moves them; crosses are rejected ones.",
    ]
    if marked:
        bins = "1 bin has a colour" if marked == 1 else f"{marked} bins have a colour each"
        paragraphs.append(f"{bins}: the line in both frames is its way from the first to the second, those between "
                          "the views lead to all its positives.")  # fmt: skip
    for text in paragraphs:
        y += GAP
        for line in wrap(text, ORIGINAL_SIDE):
            canvas.text(MARGIN, y, line)
            y += LINE
