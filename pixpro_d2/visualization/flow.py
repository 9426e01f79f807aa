"""Picture of the optical flow between two frames of a video, and of the vectors that training keeps."""

from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from PIL import Image
from torchvision.utils import flow_to_image

from .figures import (
    GAP,
    LINE,
    MARGIN,
    add_image,
    add_panel,
    contact_sheet,
    cover,
    fit,
    new_figure,
    palette,
    shorten,
    text_block,
    to_image,
)
from .marks import draw_crosses, draw_dots, draw_lines
from .tracks import Tracks, warp_back

TILE = (580, 440)  # width and height that each of the six pictures is fitted into
WIDTH = 2 * TILE[0] + 3 * MARGIN  # width of the whole picture
WHEEL = 84  # side of the legend of the flow's colours
KEPT, LEFT, DOUBTFUL = (255, 255, 255), (120, 120, 120), (0, 0, 0)  # colours of the mask
REJECTED = (48, 56, 84)  # pixels without a counterpart, in the pictures that compare the frames
CROSS = "#aaaaaa"
DIFFERENCE_GAIN = 4  # factor of differences, which would look black otherwise


def draw_flow(
    frames: Sequence[Image.Image], names: Sequence[str], pixels: Tracks, points: Tracks, steps: int, title: str
) -> Image.Image:
    """Draw both frames with the paths of some points, the flow in colours, its valid pixels, and how well it fits.

    Args:
        frames: the first and the second frame, RGB, of one size.
        names: names of the two frames.
        pixels: tracks of all pixels of the first frame, row-major.
        points: tracks whose paths are drawn.
        steps: steps between the frames.
        title: names of video and flow; begins the text below.

    Returns:
        A picture WIDTH pixels wide.
    """
    size = frames[0].size
    warped = warp_back(frames[1], pixels)
    errors = _errors(frames, warped, pixels.valid)
    later = f"t + {steps}"
    flow, rim = _flow_colours(pixels, size)
    mask, shares = _mask(pixels, size)
    panels = [
        (f"frame t: {names[0]}", frames[0]),
        (f"frame {later}: {names[1]}", frames[1]),
        (f"flow from t to {later}; rim of the wheel: {rim:.1f} pixels or more", flow),
        (shares, mask),
        (f"frame {later} warped back to t", _blank(warped, pixels.valid)),
        (f"its difference from frame t, x {DIFFERENCE_GAIN}", _difference(frames[0], warped, pixels.valid)),
    ]
    fitted = fit(frames[0], *TILE)
    step = TILE[0] + MARGIN, LINE + fitted[1] + GAP
    figure = new_figure(WIDTH, MARGIN + 3 * step[1])
    corners = [(MARGIN + i % 2 * step[0], MARGIN + i // 2 * step[1]) for i in range(6)]
    axes = [
        add_image(figure, Image.fromarray(np.asarray(picture)), corner, fitted, shorten(text, TILE[0]))
        for corner, (text, picture) in zip(corners, panels)
    ]
    colours = [palette(12)[i % 12] for i in range(len(points.valid))]  # neighbours have different colours
    for panel, places in zip(axes, (points.starts, points.ends)):
        draw_paths(panel, points, places, colours)
    place = corners[2][0] + fitted[0] - WHEEL - GAP, corners[2][1] + LINE + GAP
    frame = ((GAP, GAP), (GAP, GAP), (0, 0))  # black
    cover(add_panel(figure, place, (WHEEL, WHEEL)), np.pad(_wheel(2 * WHEEL), frame))
    paragraphs = [
        f"{title}; frames of {size[0]} x {size[1]} pixels. Of all pixels {describe(pixels)}",
        f"Points: the strongest corner of each cell of a grid; {points.valid.sum()} of {len(points.valid)} kept, with "
        "a line from where they are in the first frame to where they are in the second; crosses are rejected.",
        f"Kept pixels differ from frame t by {errors[0]:.1f} of 255 on average once warped back, and by "
        f"{errors[1]:.1f} left in place; rejected ones are blue.",
    ]
    return contact_sheet([to_image(figure), text_block(paragraphs, WIDTH)])


def describe(tracks: Tracks) -> str:
    """Describe the share of valid points and how far they move, as the end of a sentence about the points."""
    kept = tracks.lengths[tracks.valid]
    if not len(kept):
        return "none is kept."
    share, mean, most = tracks.valid.mean(), kept.mean(), kept.max()
    return f"{share:.1%} are kept; they move {mean:.1f} pixels on average and {most:.1f} at most."


def draw_paths(axes: Axes, tracks: Tracks, places: np.ndarray, colours: Sequence[str], radius: float = 3.0) -> None:
    """Draw lines from the starts to the ends of valid points, with dots at ``places``; crosses for invalid points.

    Args:
        axes: panel of a frame; lines outside are cut off.
        tracks: n points.
        places: (n, 2), the starts or the ends.
        colours: n colours.
        radius: radius of the dots in pixels of the panel.
    """
    draw_crosses(axes, places[~tracks.valid], CROSS, radius)
    kept = [colour for colour, valid in zip(colours, tracks.valid) if valid]
    draw_lines(axes, np.stack((tracks.starts, tracks.ends), axis=1)[tracks.valid], kept, 1.8)
    draw_dots(axes, places[tracks.valid], kept, radius)


def _flow_colours(pixels: Tracks, size: tuple[int, int]) -> tuple[np.ndarray, float]:
    """Return the colours (H, W, 3) of the flow, and the length in pixels at the rim of the wheel."""
    flow = pixels.ends - pixels.starts
    lengths = np.linalg.norm(flow, axis=1)
    # Vectors beyond the rim of the wheel keep the rim's colours. Otherwise a few outliers would make all others pale.
    rim = max(float(np.percentile(lengths[pixels.valid] if pixels.valid.any() else lengths, 95)), 0.1)
    return _colours(flow.reshape(size[1], size[0], 2), rim), rim


def _colours(flow: np.ndarray, rim: float) -> np.ndarray:
    """Return colours (H, W, 3) uint8 of a flow (H, W, 2), whose lengths are limited to ``rim``."""
    lengths = np.linalg.norm(flow, axis=-1, keepdims=True)
    flow = flow / np.maximum(lengths, rim)
    # flow_to_image divides by the longest vector. An extra row with a vector of length 1 makes 1 the saturated colour.
    flow = np.concatenate((flow, np.broadcast_to(np.array([1, 0], dtype=np.float32), (1, *flow.shape[1:]))))
    return flow_to_image(torch.from_numpy(flow).permute(2, 0, 1).float()).permute(1, 2, 0).numpy()[:-1]


def _wheel(side: int) -> np.ndarray:
    """Return the colour of each direction, (side, side, 3) uint8, on black."""
    axis = (np.arange(side, dtype=np.float32) + 0.5) * 2 / side - 1
    flow = np.stack(np.meshgrid(axis, axis), axis=-1)
    wheel = _colours(flow, 1.0)
    wheel[np.linalg.norm(flow, axis=-1) > 1] = 0
    return wheel


def _mask(pixels: Tracks, size: tuple[int, int]) -> tuple[np.ndarray, str]:
    """Return the picture (H, W, 3) of the mask of valid pixels, and its title."""
    left = ~pixels.valid & ~pixels.end_inside(size)
    mask = np.full((len(left), 3), DOUBTFUL, dtype=np.uint8)
    mask[left], mask[pixels.valid] = LEFT, KEPT
    title = f"white: kept, {pixels.valid.mean():.1%}; grey: leave the frame, {left.mean():.1%}; black: do not come back"
    return mask.reshape(size[1], size[0], 3), title


def _errors(frames: Sequence[Image.Image], warped: np.ndarray, valid: np.ndarray) -> list[float]:
    """Return the mean difference of valid pixels from the first frame: warped back, and in place; 0 without pixels."""
    first, second = (np.asarray(frame, dtype=np.float32) for frame in frames)
    kept = valid.reshape(first.shape[:2])
    return [float(np.abs(other - first)[kept].mean()) if kept.any() else 0.0 for other in (warped, second)]


def _difference(frame: Image.Image, warped: np.ndarray, valid: np.ndarray) -> np.ndarray:
    difference = np.abs(np.asarray(frame, dtype=np.float32) - warped).mean(axis=-1, keepdims=True)
    return _blank(np.broadcast_to(DIFFERENCE_GAIN * difference, warped.shape), valid)


def _blank(pixels: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Return the pixels as (H, W, 3) uint8, with invalid pixels in one colour."""
    pixels = pixels.clip(0, 255).round().astype(np.uint8)
    pixels[~valid.reshape(pixels.shape[:2])] = REJECTED
    return pixels
