"""Picture of the optical flow between two frames of a video, and of what training keeps of it."""

import numpy as np
import torch
from PIL import Image
from torchvision.utils import flow_to_image

from .canvas import GAP, HALO, LINE, MARGIN, fit, palette
from .sheet import Tile, draw_sheet, tile_canvas
from .tracks import warp_back

TILE = (580, 440)  # width and height that each of the six pictures is fitted into
WIDTH = 2 * TILE[0] + 3 * MARGIN  # of the whole picture
WHEEL = 76  # side of the legend of the flow's colours
KEPT, LEFT, DOUBTFUL = (255, 255, 255), (120, 120, 120), (0, 0, 0)  # of the mask
REJECTED = (48, 56, 84)  # pixels without a counterpart, in the pictures that compare the frames
CROSS = (170, 170, 170)
AMPLIFY = 4  # of differences, which would look black


def draw_flow(frames, names, pixels, points, steps, title):
    """Both frames with the paths of some points, the flow in colours, what is kept of it, and how well it fits.

    Args:
        frames (Sequence[PIL.Image.Image]): the first and the second frame, RGB, of one size.
        names (Sequence[str]): of the two frames.
        pixels (Tracks): of all pixels of the first frame, row-major.
        points (Tracks): whose paths are drawn.
        steps (int): between the frames.
        title (str): what video and flow it is; begins the text below.

    Returns:
        PIL.Image.Image: WIDTH pixels wide.
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
        (f"its difference from frame t, x {AMPLIFY}", _tile(_difference(frames[0], warped, pixels.valid)).finish()),
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


def describe(tracks):
    """The share of valid points and how far they move, as the end of a sentence about them."""
    kept = tracks.lengths[tracks.valid]
    if not len(kept):
        return "none is kept."
    share, mean, most = tracks.valid.mean(), kept.mean(), kept.max()
    return f"{share:.1%} are kept; they move {mean:.1f} pixels on average and {most:.1f} at most."


def draw_paths(canvas, tracks, places, scale, colours, radius=3.0):
    """Lines from the starts to the ends of kept points, with dots at ``places``; crosses there for the rejected.

    Args:
        canvas (Canvas): a frame enlarged by ``scale``; what lies outside is cut off.
        tracks (Tracks): n points.
        places (ndarray): (n, 2), the starts or the ends.
        scale (float): of the frame.
        colours (Sequence[tuple]): n RGB colours.
        radius (float): of the dots.
    """
    starts, ends, places = (points * scale for points in (tracks.starts, tracks.ends, places))
    for x, y in places[~tracks.valid]:
        for colour, width in ((HALO, 3), (CROSS, 1.2)):
            for rise in (-radius, radius):
                canvas.line((x - radius, y - rise), (x + radius, y + rise), colour, width)
    kept = np.flatnonzero(tracks.valid)
    for i in kept:
        for colour, width in ((HALO, 3.5), (colours[i], 1.8)):
            canvas.line(starts[i], ends[i], colour, width)
    for i in kept:
        canvas.dot(places[i], colours[i], radius)


def _path_tile(frame, points, places):
    tile, colours = tile_canvas(frame, *TILE), palette(12)  # which neighbours do not share
    draw_paths(tile, points, places, fit(frame, *TILE), [colours[i % len(colours)] for i in range(len(points.valid))])
    return tile.finish()


def _flow_tile(pixels, size, later):
    """Title and picture of the flow, with a wheel of the colours."""
    flow = pixels.ends - pixels.starts
    lengths = np.linalg.norm(flow, axis=1)
    # Beyond the rim of the wheel colours stay as they are: a few wild vectors would make all others pale.
    rim = max(float(np.percentile(lengths[pixels.valid] if pixels.valid.any() else lengths, 95)), 0.1)
    canvas = _tile(_colours(flow.reshape(size[1], size[0], 2), rim))
    corner = canvas.size[0] - WHEEL - GAP, GAP
    canvas.fill((corner[0] - 5, corner[1] - 5, corner[0] + WHEEL + 5, corner[1] + WHEEL + 5), (0, 0, 0, 190))
    canvas.paste(_wheel(), corner, 1)
    return f"flow from t to {later}; rim of the wheel: {rim:.1f} pixels or more", canvas.finish()


def _colours(flow, rim):
    """(H, W, 3) uint8 colours of flow (H, W, 2), cut off at the length ``rim``."""
    lengths = np.linalg.norm(flow, axis=-1, keepdims=True)
    flow = flow / np.maximum(lengths, rim)
    # An extra row with a vector of length 1 makes that the saturated colour: the function divides by the longest.
    flow = np.concatenate((flow, np.broadcast_to(np.float32([1, 0]), (1, *flow.shape[1:]))))
    return flow_to_image(torch.from_numpy(flow).permute(2, 0, 1).float()).permute(1, 2, 0).numpy()[:-1]


def _wheel():
    """Picture of the colour of each direction, on black."""
    side = 2 * WHEEL
    axis = (np.arange(side, dtype=np.float32) + 0.5) / WHEEL - 1
    flow = np.stack(np.meshgrid(axis, axis), axis=-1)
    wheel = _colours(flow, 1.0)
    wheel[np.linalg.norm(flow, axis=-1) > 1] = 0
    return Image.fromarray(wheel).resize((WHEEL, WHEEL), Image.Resampling.LANCZOS)


def _mask_tile(pixels, size):
    """Title and picture of which pixels are kept."""
    left = ~pixels.valid & ~pixels.end_inside(size)
    mask = np.full((len(left), 3), DOUBTFUL, dtype=np.uint8)
    mask[left], mask[pixels.valid] = LEFT, KEPT
    title = f"white: kept, {pixels.valid.mean():.1%}; grey: leave the frame, {left.mean():.1%}; black: do not come back"
    return title, _tile(mask.reshape(size[1], size[0], 3)).finish()


def _errors(frames, warped, valid):
    """Mean difference of the kept pixels of both frames: warped back, and left in place; 0 if none is kept."""
    first, second = (np.asarray(frame, dtype=np.float32) for frame in frames)
    kept = valid.reshape(first.shape[:2])
    return [float(np.abs(other - first)[kept].mean()) if kept.any() else 0.0 for other in (warped, second)]


def _difference(frame, warped, valid):
    difference = np.abs(np.asarray(frame, dtype=np.float32) - warped).mean(axis=-1, keepdims=True)
    return _blank(np.broadcast_to(AMPLIFY * difference, warped.shape), valid)


def _blank(pixels, valid):
    """(H, W, 3) uint8, the rejected pixels in one colour."""
    pixels = pixels.clip(0, 255).round().astype(np.uint8)
    pixels[~valid.reshape(pixels.shape[:2])] = REJECTED
    return pixels


def _tile(pixels):
    """Canvas of (H, W, 3) uint8 pixels, fitted into TILE."""
    return tile_canvas(Image.fromarray(pixels), *TILE)
