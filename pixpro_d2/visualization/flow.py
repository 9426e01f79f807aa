"""Picture of the optical flow between two frames of a video, and of the vectors that training keeps."""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torchvision.utils import flow_to_image

from .canvas import GAP, HALO, LINE, MARGIN, Canvas, Colour, fit, palette
from .sheet import Tile, draw_sheet, tile_canvas
from .tracks import Tracks, warp_back

TILE = (580, 440)  # width and height that each of the six pictures is fitted into
WIDTH = 2 * TILE[0] + 3 * MARGIN  # width of the whole picture
WHEEL = 76  # side of the legend of the flow's colours
KEPT, LEFT, DOUBTFUL = (255, 255, 255), (120, 120, 120), (0, 0, 0)  # colours of the mask
REJECTED = (48, 56, 84)  # pixels without a counterpart, in the pictures that compare the frames
CROSS = (170, 170, 170)
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
    tiles = [
        (f"frame t: {names[0]}", _path_tile(frames[0], points, points.starts)),
        (f"frame {later}: {names[1]}", _path_tile(frames[1], points, points.ends)),
        _flow_tile(pixels, size, later),
        _mask_tile(pixels, size),
        (f"frame {later} warped back to t", _tile(_blank(warped, pixels.valid)).finish()),
        (
            f"its difference from frame t, x {DIFFERENCE_GAIN}",
            _tile(_difference(frames[0], warped, pixels.valid)).finish(),
        ),
    ]
    paragraphs = [
        f"{title}; frames of {size[0]} x {size[1]} pixels. Of all pixels {describe(pixels)}",
        f"Points: the strongest corner of each cell of a grid; {points.valid.sum()} of {len(points.valid)} kept, with "
        "a line from where they are in the first frame to where they are in the second; crosses are rejected.",
        f"Kept pixels differ from frame t by {errors[0]:.1f} of 255 on average once warped back, and by "
        f"{errors[1]:.1f} left in place; rejected ones are blue.",
    ]
    step = TILE[0] + MARGIN, LINE + tiles[0][1].height + GAP
    places = [(MARGIN + i % 2 * step[0], MARGIN + i // 2 * step[1]) for i in range(len(tiles))]
    placed = [Tile(*place, picture, title, room=TILE[0]) for place, (title, picture) in zip(places, tiles)]
    return draw_sheet(placed, paragraphs, WIDTH)


def describe(tracks: Tracks) -> str:
    """Describe the share of valid points and how far they move, as the end of a sentence about the points."""
    kept = tracks.lengths[tracks.valid]
    if not len(kept):
        return "none is kept."
    share, mean, most = tracks.valid.mean(), kept.mean(), kept.max()
    return f"{share:.1%} are kept; they move {mean:.1f} pixels on average and {most:.1f} at most."


def draw_paths(
    canvas: Canvas,
    tracks: Tracks,
    places: np.ndarray,
    scale: float,
    colours: Sequence[Colour],
    radius: float = 3.0,
) -> None:
    """Draw lines from the starts to the ends of valid points, with dots at ``places``; crosses for invalid points.

    Args:
        canvas: a frame enlarged by ``scale``; lines outside are cut off.
        tracks: n points.
        places: (n, 2), the starts or the ends.
        scale: factor of the frame.
        colours: n RGB colours.
        radius: radius of the dots.
    """
    starts, ends, places = (points * scale for points in (tracks.starts, tracks.ends, places))
    for x, y in places[~tracks.valid]:
        for colour, width in ((HALO, 3), (CROSS, 1.2)):
            for rise in (-radius, radius):
                canvas.line((x - radius, y - rise), (x + radius, y + rise), colour, width)
    kept = np.flatnonzero(tracks.valid).tolist()
    for i in kept:
        for colour, width in ((HALO, 3.5), (colours[i], 1.8)):
            canvas.line(starts[i], ends[i], colour, width)
    for i in kept:
        canvas.dot(places[i], colours[i], radius)


def _path_tile(frame: Image.Image, points: Tracks, places: np.ndarray) -> Image.Image:
    tile, colours = tile_canvas(frame, *TILE), palette(12)  # neighbours have different colours
    draw_paths(tile, points, places, fit(frame, *TILE), [colours[i % len(colours)] for i in range(len(points.valid))])
    return tile.finish()


def _flow_tile(pixels: Tracks, size: tuple[int, int], later: str) -> tuple[str, Image.Image]:
    """Return title and picture of the flow, with a wheel of the colours."""
    flow = pixels.ends - pixels.starts
    lengths = np.linalg.norm(flow, axis=1)
    # Vectors beyond the rim of the wheel keep the rim's colours. Otherwise a few outliers would make all others pale.
    rim = max(float(np.percentile(lengths[pixels.valid] if pixels.valid.any() else lengths, 95)), 0.1)
    canvas = _tile(_colours(flow.reshape(size[1], size[0], 2), rim))
    corner = canvas.size[0] - WHEEL - GAP, GAP
    canvas.fill((corner[0] - 5, corner[1] - 5, corner[0] + WHEEL + 5, corner[1] + WHEEL + 5), (0, 0, 0, 190))
    canvas.paste(_wheel(), corner, 1)
    return f"flow from t to {later}; rim of the wheel: {rim:.1f} pixels or more", canvas.finish()


def _colours(flow: np.ndarray, rim: float) -> np.ndarray:
    """Return colours (H, W, 3) uint8 of a flow (H, W, 2), whose lengths are limited to ``rim``."""
    lengths = np.linalg.norm(flow, axis=-1, keepdims=True)
    flow = flow / np.maximum(lengths, rim)
    # flow_to_image divides by the longest vector. An extra row with a vector of length 1 makes 1 the saturated colour.
    flow = np.concatenate((flow, np.broadcast_to(np.array([1, 0], dtype=np.float32), (1, *flow.shape[1:]))))
    return flow_to_image(torch.from_numpy(flow).permute(2, 0, 1).float()).permute(1, 2, 0).numpy()[:-1]


def _wheel() -> Image.Image:
    """Draw the colour of each direction, on black."""
    side = 2 * WHEEL
    axis = (np.arange(side, dtype=np.float32) + 0.5) / WHEEL - 1
    flow = np.stack(np.meshgrid(axis, axis), axis=-1)
    wheel = _colours(flow, 1.0)
    wheel[np.linalg.norm(flow, axis=-1) > 1] = 0
    return Image.fromarray(wheel).resize((WHEEL, WHEEL), Image.Resampling.LANCZOS)


def _mask_tile(pixels: Tracks, size: tuple[int, int]) -> tuple[str, Image.Image]:
    """Return title and picture of the mask of valid pixels."""
    left = ~pixels.valid & ~pixels.end_inside(size)
    mask = np.full((len(left), 3), DOUBTFUL, dtype=np.uint8)
    mask[left], mask[pixels.valid] = LEFT, KEPT
    title = f"white: kept, {pixels.valid.mean():.1%}; grey: leave the frame, {left.mean():.1%}; black: do not come back"
    return title, _tile(mask.reshape(size[1], size[0], 3)).finish()


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


def _tile(pixels: np.ndarray) -> Canvas:
    """Return a canvas of (H, W, 3) uint8 pixels, fitted into TILE."""
    return tile_canvas(Image.fromarray(pixels), *TILE)
