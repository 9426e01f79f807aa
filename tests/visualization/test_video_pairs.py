"""The picture of positive pairs between two frames shows where the flow moves bins."""

import itertools

import numpy as np
import pytest
from drawn import capture, near, places, words
from PIL import Image

from pixpro_d2.visualization import video_pairs
from pixpro_d2.visualization.correspondence import ORIGINAL_SIDE, VIEW_COLOURS, WIDTH
from pixpro_d2.visualization.figures import LINE, MARGIN, palette
from pixpro_d2.visualization.labels import overlap
from pixpro_d2.visualization.tracks import Tracks
from pixpro_d2.visualization.video_pairs import FRAME, draw_video_pairs

GRID = (2, 2)
BOXES = np.float32([[0, 0, 40, 40], [80, 0, 40, 40]])  # view 2 is mirrored
STARTS = np.float32([[10, 10], [30, 10], [10, 30], [30, 30]])
TRACKS = Tracks(STARTS, STARTS + np.float32([40, 4]), np.array([True, True, True, False]))
POSITIVES = np.eye(4, dtype=bool)[[1, 0, 3, 2]] & TRACKS.valid[:, None]


def draw(size=(80, 40), positives=POSITIVES, tracks=TRACKS):
    frames = [Image.new("RGB", size, (60, 60, 60))] * 2
    views = [Image.new("RGB", (8, 8), (60, 60, 60))] * 2
    return draw_video_pairs(frames, ("a.jpg", "b.jpg"), views, BOXES, tracks, positives, (GRID, GRID), "Caption.", 2)


def frame(picture, number, size=(80, 40)):
    """Array (height, width, 3) of a frame in the picture, and its enlargement."""
    scale = min(FRAME[0] / size[0], FRAME[1] / size[1])
    x, y = MARGIN + number * (FRAME[0] + MARGIN), MARGIN + LINE
    height, width = round(size[1] * scale), round(size[0] * scale)
    return np.asarray(picture)[y : y + height, x : x + width].astype(int), scale


def test_marked_bins_are_where_they_start_and_where_the_flow_moves_them():
    picture = draw()
    queries = video_pairs.choose_queries(POSITIVES, GRID, 2)
    assert len(queries) == 2
    for number, points in enumerate((TRACKS.starts, TRACKS.ends)):
        pixels, scale = frame(picture, number)
        for query, colour in zip(queries, palette(2)):
            x, y = np.round(points[query] * scale).astype(int)
            assert near(pixels[y - 3 : y + 3, x - 3 : x + 3], colour).all()
            # and the way from start to end in both of them
            x, y = np.round((TRACKS.starts[query] + [20, 2]) * scale).astype(int)
            assert near(pixels[y - 2 : y + 2, x : x + 1], colour, 60).any()
        (unmarked,) = set(np.flatnonzero(TRACKS.valid)) - set(queries)
        x, y = np.round(points[unmarked] * scale).astype(int)
        assert near(pixels[y - 1 : y + 1, x - 1 : x + 1], VIEW_COLOURS[0], 40).all()
        x, y = np.round(points[3] * scale).astype(int)  # rejected
        assert not near(pixels[y - 6 : y + 6, x - 6 : x + 6], VIEW_COLOURS[0], 60).any()
        assert pixels[y - 6 : y + 6, x - 6 : x + 6].max() > 120


def test_each_crop_is_in_its_own_frame():
    for number, (left, right) in enumerate(((0, 40), (40, 80))):
        pixels, scale = frame(draw(), number)
        assert not near(pixels, VIEW_COLOURS[1 - number]).sum(axis=0).max() > 30 * scale
        columns = np.flatnonzero(near(pixels, VIEW_COLOURS[number]).sum(axis=0) > 30 * scale)  # its upright sides
        assert columns.min() == pytest.approx(left * scale, abs=2)
        assert columns.max() == pytest.approx(right * scale, abs=3)


@pytest.mark.parametrize("size", [(80, 40), (80, 400), (900, 60)])
@pytest.mark.parametrize("matched", [False, True])
def test_texts_and_width(size, matched, monkeypatch):
    found = capture(monkeypatch)
    picture = draw(size, POSITIVES & matched)
    assert picture.width == WIDTH == 1200
    figure, column = found
    said = " ".join(words(figure) + words(column))
    assert "view 1's frame: a.jpg" in said and "view 2's frame: b.jpg" in said and "Caption." in said
    assert "view 2, mirrored: 40 x 40 pixels" in said
    assert ("2 bins have a colour each" in said) == matched
    boxes = [box for text, box in places(figure) if text not in ("view 1", "view 2")]
    for a, b in itertools.combinations(boxes, 2):
        assert overlap(a, b) == 0
    assert all(box[2] <= WIDTH and box[3] <= picture.height for box in boxes)
    lowest = round(max(box[3] for text, box in places(figure) if "pixels" in text)) + 5
    text = near(picture, "#e8e8e8", 60)[lowest:, : ORIGINAL_SIDE + 2 * MARGIN]
    assert text.any() and not text[:, :MARGIN].any() and not text[:, ORIGINAL_SIDE + MARGIN + 1 :].any()
