"""The picture of positive pairs shows the same physical points."""

import numpy as np
import pytest
import torch
from PIL import Image

from pixpro_d2.data.views import View
from pixpro_d2.modeling.correspondence import normalize_boxes, positive_pairs
from pixpro_d2.visualization.correspondence import bin_pixels, choose_queries, describe, draw_correspondences

SIZE, GRID = 64, (8, 8)


def make_views(*views):
    """Views of an image whose colour tells the location: red is x, green is y."""
    x, y = np.meshgrid(np.arange(200), np.arange(120))
    image = Image.fromarray(np.stack([x, y, 0 * x], axis=-1).astype(np.uint8))
    pixels = np.stack([np.asarray(view.render(image, SIZE)) for view in views])
    boxes = np.stack([view.box for view in views])
    sizes = torch.tensor([[120, 200]])
    normal = [normalize_boxes(torch.from_numpy(box)[None], sizes) for box in boxes]
    return image, pixels, boxes, positive_pairs(*normal, GRID, GRID, 0.7)[0].numpy()


@pytest.mark.parametrize("flips", [(False, False), (True, False), (False, True), (True, True)])
def test_pairs_join_pixels_of_the_same_place(flips):
    first, second = View(20, 10, 120, 90, flips[0]), View(60, 30, 100, 80, flips[1])
    _, pixels, _, positives = make_views(first, second)
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


def test_bin_centres_are_row_major():
    np.testing.assert_array_equal(bin_pixels((1, 2), 8), [[2, 4], [6, 4]])
    np.testing.assert_array_equal(bin_pixels((2, 1), 8), [[4, 2], [4, 6]])


def test_queries_are_matched_bins_spread_over_all():
    positives = np.zeros((10, 4), dtype=bool)
    positives[[1, 2, 5, 9], 0] = True
    assert choose_queries(positives, 9).tolist() == [1, 2, 5, 9]
    assert choose_queries(positives, 2).tolist() == [1, 9]
    assert choose_queries(np.zeros((3, 3), dtype=bool), 2).tolist() == []


def test_counts():
    positives = np.zeros((4, 4), dtype=bool)
    positives[0, :3] = positives[2, 1] = True
    assert describe(positives, (2, 2), 0.7) == (
        "4 positive pairs on a 2 x 2 grid at threshold 0.7; 50% of view 1's bins have one."
    )


def test_lines_reach_from_view_to_view_and_nothing_is_drawn_without_pairs():
    image, pixels, boxes, positives = make_views(View(20, 10, 120, 90, False), View(60, 30, 100, 80, True))
    full = np.asarray(draw_correspondences(image, pixels, boxes, positives, GRID, 0.7, side=200)).astype(int)
    none = np.asarray(draw_correspondences(image, pixels, boxes, positives & False, GRID, 0.7, side=200)).astype(int)
    assert full.shape[1] == 3 * 200 + 4 * 20
    changed = np.abs(full - none).sum(axis=2) > 60
    between = slice(20 + 2 * 200 + 20 + 8, 20 + 2 * 220 - 8)  # the gap between view 1 and view 2
    assert changed[50:230, between].any()
    assert not changed[: 42 + 200, : 20 + 200].any()  # the original shows boxes only
