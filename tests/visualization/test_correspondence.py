"""The picture of positive pairs shows the same physical points."""

import itertools

import numpy as np
import pytest
import torch
from drawn import capture, near, places, words
from PIL import Image

from pixpro_d2.data.pretrain.views import View
from pixpro_d2.modeling.pretrain.correspondence import bin_centers, normalize_boxes, positive_pairs
from pixpro_d2.visualization import correspondence
from pixpro_d2.visualization.correspondence import (
    ORIGINAL_SIDE,
    TOP,
    VIEW_COLOURS,
    VIEW_SIDE,
    WIDTH,
    choose_queries,
    count_pairs,
    describe,
    draw_correspondences,
)
from pixpro_d2.visualization.figures import MARGIN, palette, size_of

SIZE, GRID = 64, (8, 8)
# Upper left corners of the original and the two views in the picture.
PLACES = [(MARGIN, TOP), (ORIGINAL_SIDE + 2 * MARGIN, TOP), (ORIGINAL_SIDE + VIEW_SIDE + 3 * MARGIN, TOP)]
FLIPS = list(itertools.product((False, True), repeat=2))


def make_views(first, second, grids=(GRID, GRID)):
    """Views of an image whose colour tells the location: red is x, green is y."""
    x, y = np.meshgrid(np.arange(200), np.arange(120))
    image = Image.fromarray(np.stack([x, y, 0 * x], axis=-1).astype(np.uint8))
    pixels = np.stack([view.render(image, SIZE).transpose(1, 2, 0) for view in (first, second)])
    boxes = np.stack([view.box for view in (first, second)])
    normal = normalize_boxes(torch.from_numpy(boxes), torch.tensor([[120, 200]] * 2))
    return image, pixels, boxes, positive_pairs(normal[:1], normal[1:], *grids, 0.7)[0].numpy()


def bin_pixels(grid, size):
    """Centres (x, y) of bins in the pixels of a view; a mirrored view's feature map is mirrored as its pixels are."""
    return bin_centers(torch.tensor([[0, 0, size, size]]), grid)[0].numpy()


def usual_views(flips=(False, True), **kwargs):
    return make_views(View(20, 10, 120, 90, flips[0]), View(60, 30, 100, 80, flips[1]), **kwargs)


def draw(image, pixels, *args, **kwargs):
    return draw_correspondences(image, [Image.fromarray(view) for view in pixels], *args, **kwargs)


def as_array(picture):
    return np.asarray(picture).astype(int)


@pytest.mark.parametrize("flips", FLIPS)
def test_pairs_join_pixels_of_the_same_place(flips):
    _, pixels, _, positives = usual_views(flips)
    places = bin_pixels(GRID, SIZE).astype(int)
    rows, columns = np.nonzero(positives)
    assert len(rows) > 20
    a = pixels[0][places[rows, 1], places[rows, 0]].astype(int)
    b = pixels[1][places[columns, 1], places[columns, 0]].astype(int)
    # 0.7 diagonals of the larger bin, 15 x 11.25 pixels or 0.075 x 0.094 of the image; and two pixels of each view,
    # of nearly two pixels of the original, for rounding.
    diagonal = np.hypot(15 / 200, 11.25 / 120)
    assert np.abs(a - b)[:, 0].max() <= 0.7 * diagonal * 200 + 4
    assert np.abs(a - b)[:, 1].max() <= 0.7 * diagonal * 120 + 4
    mirrored = pixels[1][places[columns, 1], SIZE - 1 - places[columns, 0]].astype(int)
    assert np.abs(a - mirrored)[:, 0].max() > 40  # a forgotten flip would be seen


@pytest.mark.parametrize("flips", FLIPS)
def test_dots_in_the_picture_lie_on_the_same_place(flips, monkeypatch):
    """The dots as drawn, looked up in the picture as drawn without them."""
    drawn = []
    monkeypatch.setattr(correspondence, "draw_dots", lambda axes, *dots, **kw: drawn.append((axes, *dots)))
    for name in ("draw_lines", "draw_labels", "fill_boxes"):
        monkeypatch.setattr(correspondence, name, lambda *args, **kwargs: None)
    monkeypatch.setattr(correspondence, "GRID_COLOUR", (0, 0, 0, 0))
    figures = capture(monkeypatch)
    image, pixels, boxes, positives = usual_views(flips)
    picture = as_array(draw(image, pixels, boxes, positives, (GRID, GRID)))

    height = size_of(figures[0])[1]
    shown = {}
    for axes, points, colours, *_ in drawn:
        points = np.reshape(points, (-1, 2))
        colours = [colours] * len(points) if isinstance(colours, str) else colours
        for (x, y), colour in zip(axes.transData.transform(points), colours):
            panel = max(i for i, place in enumerate(PLACES) if x >= place[0])
            shown.setdefault(colour, [[], [], []])[panel].append(picture[int(height - y), int(x), :2])
    assert 5 <= len(shown) <= 12
    diagonal = np.hypot(15 / 200, 11.25 / 120)
    for original, first, second in shown.values():
        assert len(original) == len(first) == 1 and len(second) >= 1
        # The original is enlarged by 1.6, the views show up to 2 pixels per pixel of theirs.
        assert np.abs(original[0] - first[0]).max() <= 4
        assert np.abs(second - first[0]).max(axis=0)[0] <= 0.7 * diagonal * 200 + 4
        assert np.abs(second - first[0]).max(axis=0)[1] <= 0.7 * diagonal * 120 + 4


def test_bin_centres_are_row_major():
    np.testing.assert_array_equal(bin_pixels((1, 2), 8), [[2, 4], [6, 4]])
    np.testing.assert_array_equal(bin_pixels((2, 1), 8), [[4, 2], [4, 6]])


def test_queries_are_matched_bins_spread_over_all():
    everywhere = choose_queries(np.eye(100, dtype=bool), (10, 10), 10)
    assert len(set(everywhere // 10)) == 10  # one of each row
    assert len(set(everywhere % 10)) >= 6
    positives = np.zeros((12, 12), dtype=bool)
    positives[[1, 4, 5, 11], [0, 1, 2, 3]] = True
    assert choose_queries(positives, (4, 3), 9).tolist() == [1, 4, 5, 11]
    assert set(choose_queries(positives, (4, 3), 2)) < {1, 4, 5, 11}
    assert choose_queries(np.zeros((9, 9), dtype=bool), (3, 3), 2).tolist() == []


def test_queries_share_no_positive():
    *_, positives = make_views(View(0, 0, 200, 120, False), View(60, 30, 40, 40, True))
    queries = choose_queries(positives, GRID, 12)
    assert 1 <= len(queries) < 12
    assert positives[queries].sum(axis=0).max() == 1


def test_counts():
    positives = np.zeros((4, 4), dtype=bool)
    positives[0, :3] = positives[2, 1] = True
    grids = ((2, 2), (2, 2))
    assert count_pairs(positives) == (4, 0.5)
    assert describe(positives, grids, 0.7) == (
        "4 positive pairs on a 2 x 2 grid at threshold 0.7; 50% of view 1's bins have one."
    )
    assert describe(positives & False, grids) == (
        "0 positive pairs on a 2 x 2 grid; 0% of view 1's bins have one."
    )  # fmt: skip
    one = np.array([[True] + [False] * 5])
    assert describe(one, ((1, 1), (2, 3))) == (
        "1 positive pair on grids of 1 x 1 and 2 x 3; 100% of view 1's bins have one."
    )


def test_caption_counts_what_the_views_have(monkeypatch):
    found = capture(monkeypatch)
    image, pixels, boxes, positives = usual_views()
    draw(image, pixels, boxes, positives, (GRID, GRID))
    panels, below = found
    share = len({i for i, _ in zip(*np.nonzero(positives))}) / 64
    said = f"{len(np.argwhere(positives))} positive pairs on a 8 x 8 grid; {share:.0%} of view 1's bins"
    assert said in " ".join(words(below))
    titles = {text for text, box in places(panels) if box[3] <= TOP}
    assert titles == {"image, 200 x 120 pixels", "view 1", "view 2, mirrored"}
    assert "■ view 2, mirrored: 100 x 80 pixels" in words(panels)

    found.clear()
    draw(image, pixels, boxes, positives & False, (GRID, GRID), caption="word " * 100)
    assert " ".join(words(found[1])).split() == ["word"] * 100


@pytest.mark.parametrize("size", [(200, 120), (40, 400), (900, 60), (2, 2)])
def test_pictures_have_one_width_and_legend_and_caption_clear_the_images(size):
    image = Image.new("RGB", size, (255, 0, 255))
    boxes = np.array([[0, 0, *size], [size[0], 0, 0, size[1]]], dtype=np.float32)
    views = np.full((2, SIZE, SIZE, 3), 255, np.uint8) * np.uint8([1, 0, 1])
    none = np.zeros((64, 64), dtype=bool)
    picture = draw(image, views, boxes, none, (GRID, GRID))
    assert picture.width == WIDTH == 1200
    magenta = near(picture, "#ff00ff", 60)
    rows, columns = np.nonzero(magenta[:, : MARGIN + ORIGINAL_SIDE + MARGIN // 2])
    assert rows.min() >= TOP and rows.max() < TOP + ORIGINAL_SIDE
    assert columns.min() >= MARGIN and columns.max() < MARGIN + ORIGINAL_SIDE
    legend = near(picture, VIEW_COLOURS[0])[rows.max() + 8 :, : MARGIN + ORIGINAL_SIDE]
    assert legend.sum() > 100
    assert not magenta[TOP + VIEW_SIDE :].any()


def test_lines_end_at_the_bins_of_the_pair():
    """A single pair, of bin (1, 6) of view 1 with bin (5, 2) of view 2."""
    image, pixels, boxes, positives = usual_views()
    one = np.zeros_like(positives)
    one[8 + 6, 5 * 8 + 2] = True
    full = as_array(draw(image, pixels, boxes, one, (GRID, GRID)))
    none = as_array(draw(image, pixels, boxes, one & False, (GRID, GRID)))
    full = full[: TOP + VIEW_SIDE]
    changed = np.abs(full - none[: len(full)]).max(axis=2) > 20
    bin_side = VIEW_SIDE / 8
    start = np.array(PLACES[1]) + (6.5 * bin_side, 1.5 * bin_side)
    end = np.array(PLACES[2]) + (2.5 * bin_side, 5.5 * bin_side)
    rows, columns = np.nonzero(changed[:, PLACES[1][0] :])
    columns = columns + PLACES[1][0]
    # The bins' squares are what reaches furthest.
    assert columns.min() == pytest.approx(start[0] - bin_side / 2, abs=2)
    assert columns.max() == pytest.approx(end[0] + bin_side / 2, abs=2)
    assert rows.min() == pytest.approx(start[1] - bin_side / 2, abs=2)
    assert rows.max() == pytest.approx(end[1] + bin_side / 2, abs=2)
    colour = palette(1)[0]
    for share in (0, 0.2, 0.5, 0.8, 1):
        x, y = np.round(start + share * (end - start)).astype(int)
        assert near(full[y - 2 : y + 3, x - 2 : x + 3], colour, 60).any()


def test_a_tensor_of_positives_gives_the_same_picture():
    image, pixels, boxes, positives = usual_views()
    grids = (GRID, GRID)
    expected = as_array(draw(image, pixels, boxes, positives, grids))
    np.testing.assert_array_equal(as_array(draw(image, pixels, boxes, torch.from_numpy(positives), grids)), expected)


def test_grids_may_differ():
    grids = ((2, 4), (8, 6))
    image, pixels, boxes, positives = usual_views(grids=grids)
    assert positives.shape == (8, 48) and positives.any()
    assert draw(image, pixels, boxes, positives, grids).width == WIDTH
