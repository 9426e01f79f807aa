"""The picture of the flow between two frames."""

import numpy as np
import pytest
from drawn import capture, near, places, rgb, words
from PIL import Image

from pixpro_d2.visualization import flow
from pixpro_d2.visualization.figures import LINE, MARGIN, add_panel, new_figure, palette, to_image
from pixpro_d2.visualization.flow import CROSS, REJECTED, TILE, WIDTH, describe, draw_flow, draw_paths
from pixpro_d2.visualization.labels import overlap
from pixpro_d2.visualization.tracks import Tracks, pixel_centers

SIZE = (64, 48)  # (W, H) of the frames, which are enlarged until their width is that of TILE
SCALE = TILE[0] / SIZE[0]
TILE_WIDTH, HEIGHT = TILE[0], round(SIZE[1] * SCALE)
BLUE = (40, 60, 200)


def moved(starts, by, valid=True):
    starts = np.float32(starts)
    return Tracks(starts, starts + np.float32(by), np.broadcast_to(valid, len(starts)).copy())


def picture(pixels, points=None, size=SIZE, second=BLUE):
    frames = [Image.new("RGB", size, BLUE), Image.new("RGB", size, second)]
    points = moved([[10, 10]], (0, 0), valid=False) if points is None else points
    return draw_flow(frames, ("1.jpg", "6.jpg"), pixels, points, 5, "a video")


def tile(image, row, column):
    """Array (height, width, 3) of one of the six pictures."""
    x, y = MARGIN + column * (TILE[0] + MARGIN), MARGIN + row * (LINE + HEIGHT + flow.GAP) + LINE
    return np.asarray(image)[y : y + HEIGHT, x : x + TILE_WIDTH].astype(int)


@pytest.mark.parametrize("size", [(64, 48), (90, 16), (9, 40), (2, 2)])
def test_every_frame_size_has_the_same_width_and_texts_apart(size, monkeypatch):
    found = capture(monkeypatch)
    drawn = picture(moved(pixel_centers(size), (0, 0)), size=size)
    panels, text = found
    assert drawn.width == WIDTH == 1220 and words(text)[0].startswith("a video")
    titles = places(panels)
    assert "1.jpg" in titles[0][0] and "t + 5: 6.jpg" in titles[1][0] and len(titles) == 6
    height = round(size[1] * min(TILE[0] / size[0], TILE[1] / size[1]))
    corners = [(MARGIN + i % 2 * (TILE[0] + MARGIN), MARGIN + i // 2 * (LINE + height + flow.GAP)) for i in range(6)]
    for (_, box), (x, y) in zip(titles, corners):  # in the gap above its picture
        assert overlap(box, (x - 1, y, x + TILE[0] + 1, y + LINE)) == overlap(box, box)


def test_a_share_of_the_mask_is_white_and_the_texts_say_it(monkeypatch):
    found = capture(monkeypatch)
    starts = pixel_centers(SIZE)
    # The left half is kept; of the right half, that moves by 16 of 64 pixels, the last 16 columns leave the frame.
    right = starts[:, 0] > 32
    drawn = picture(moved(starts, np.stack((16 * right, 0 * right), axis=1), valid=~right))
    mask = tile(drawn, 1, 1)
    for shade, share in ((255, 0.5), (120, 0.25), (0, 0.25)):
        assert (np.abs(mask - shade).max(axis=2) < 4).mean() == pytest.approx(share, abs=0.02)
    assert mask[HEIGHT // 2, TILE_WIDTH // 4].tolist() == [255] * 3  # on its side
    assert "white: kept, 50.0%; grey: leave the frame, 25.0%; black: do not come back" in words(found[0])
    assert "Of all pixels 50.0% are kept; they move 0.0 pixels on average and 0.0 at most." in " ".join(words(found[1]))


def test_sentence_about_motion():
    tracks = moved([[0, 0], [0, 0], [0, 0], [0, 0]], [[3, 4], [0, 0], [100, 0], [0, 1]], [True, True, False, True])
    assert describe(tracks) == "75.0% are kept; they move 2.0 pixels on average and 5.0 at most."
    assert describe(moved([[0, 0]], (1, 1), valid=False)) == "none is kept."


def test_colours_tell_the_direction_and_the_wheel_shows_them():
    to_the_right, down = (tile(picture(moved(pixel_centers(SIZE), by)), 1, 0) for by in ((5, 0), (0, 5)))
    wheel = flow._wheel(76).astype(int)
    middle, rim = wheel.shape[0] // 2, wheel.shape[0] - 4
    for shown, colour in ((to_the_right, wheel[middle, rim]), (down, wheel[rim, middle])):
        assert np.abs(shown[HEIGHT // 2, TILE_WIDTH // 4] - colour).max() < 40
    assert np.abs(to_the_right - down)[HEIGHT // 2, TILE_WIDTH // 4].max() > 100
    assert wheel[middle, middle].min() > 220 and wheel[1, 1].max() == 0  # at rest, and outside


def test_what_is_compared_of_the_frames(monkeypatch):
    found = capture(monkeypatch)
    upper = pixel_centers(SIZE)[:, 1] < 24
    # All channels 10 more: four times that is a grey of 40.
    drawn = picture(moved(pixel_centers(SIZE), (0, 0), valid=upper), second=tuple(c + 10 for c in BLUE))
    warped, difference = (tile(drawn, 2, i) for i in range(2))
    assert np.abs(warped[HEIGHT // 4, TILE_WIDTH // 2] - BLUE - 10).max() <= 1
    assert np.abs(difference[HEIGHT // 4, TILE_WIDTH // 2] - 40).max() <= 1
    for shown in (warped, difference):
        assert np.abs(shown[3 * HEIGHT // 4, TILE_WIDTH // 2] - REJECTED).max() <= 1
    assert "by 10.0 of 255 on average once warped back, and by 10.0 left in place" in " ".join(words(found[1]))


def test_paths_of_kept_points_and_crosses_of_rejected_ones():
    """Two points of a frame that is enlarged by 2: one moves to the right, one is rejected."""
    tracks = moved([[10, 10], [10, 30]], (20, 0), [True, False])
    shown = {}
    for which in ("starts", "ends"):
        figure = new_figure(120, 80)
        axes = add_panel(figure, (0, 0), (120, 80))
        axes.set(xlim=(0, 60), ylim=(40, 0))
        draw_paths(axes, tracks, getattr(tracks, which), ["#ff0000", "#00ff00"])
        shown[which] = np.asarray(to_image(figure)).astype(int)
    for pixels in shown.values():
        assert near(pixels, "#ff0000", 60)[19:21, 40].any()  # halfway
        assert (pixels[..., 1] - pixels[..., 0]).max() < 60  # no green: a rejected point has no path
    for x, which in [(20, "starts"), (60, "ends")]:
        assert near(shown[which], "#ff0000", 60)[18:22, x - 2 : x + 2].all()
        assert near(shown[which], CROSS, 40)[57:63, x - 3 : x + 3].any()  # of the other point
    assert np.abs(shown["starts"][17:19, 59:61] - shown["ends"][17:19, 59:61]).max() > 100  # no dot at the other end


def test_the_frames_of_the_picture_show_starts_and_ends():
    points = moved([[16, 24]], (32, 0))
    drawn = picture(moved(pixel_centers(SIZE), (0, 0)), points)
    colour = rgb(palette(1)[0])
    for column, x in ((0, 16), (1, 48)):
        y, x = round(24 * SCALE), round(x * SCALE)
        assert np.abs(tile(drawn, 0, column)[y - 2 : y + 2, x - 2 : x + 2] - colour).max() < 60
