"""Matches between two views."""

import math

import numpy as np
import pytest
import torch
from drawn import capture, near, words
from PIL import Image

from pixpro_d2.modeling.pretrain.monitors import match_accuracy
from pixpro_d2.visualization.correspondence import VIEW_COLOURS
from pixpro_d2.visualization.figures import LINE, MARGIN
from pixpro_d2.visualization.matches import RIGHT, WRONG, draw_matches, match_level
from pixpro_d2.visualization.rows import SIDE

BOXES = np.array([[0, 0, 9, 9], [9, 0, 0, 9]])  # of which the second is mirrored


def maps(*pixels):
    """One view of two-dimensional features, a row of pixels: (2, 1, L)."""
    return torch.tensor(pixels, dtype=torch.float32).T[:, None]


def level():
    """Pixel 0 is matched rightly; 1 wrongly, its nearest is 0; 2 has no true match, though its nearest is 1."""
    positives = torch.tensor([[True, False], [False, True], [False, False]])
    return match_level(maps([2, 0], [3, 1], [0, 1]), maps([1, 0], [0.5, 5]), positives)


def test_numbers_by_hand():
    found = level()
    assert found.grids == ((1, 3), (1, 2))
    assert found.nearest.tolist() == [0, 0, 1]
    assert found.right.tolist() == [True, False, False] and found.matched.tolist() == [True, True, False]
    assert found.accuracy == 0.5 and found.chance == 0.5  # of the first two, one of two pixels is right each
    assert found.queries.tolist() == [0, 1]
    other = np.array([0.5, 5]) / math.hypot(0.5, 5)
    expected = [[1, other[0]], [3 / math.sqrt(10), (3 * other[0] + other[1]) / math.sqrt(10)]]
    np.testing.assert_allclose(found.cosines[:, 0], expected, atol=1e-6)


def test_same_numbers_as_the_monitors():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(6, 4, 5, generator=generator)
    order = torch.randperm(20, generator=generator)
    others = features.flatten(1)[:, order].view(6, 4, 5)  # bin i of view 2 is bin order[i] of view 1
    positives = (order[None] == torch.arange(20)[:, None]) & (torch.arange(20) % 3 > 0)[:, None]
    others = others + 0.8 * torch.randn(6, 4, 5, generator=generator)
    found = match_level(features, others, positives)
    assert 0.3 < found.accuracy < 0.9
    assert found.accuracy == match_accuracy(features[None], others[None], positives[None]).item()
    assert found.accuracy == pytest.approx((found.right & found.matched).sum() / found.matched.sum())
    for query, cosines in zip(found.queries, found.cosines):
        assert cosines.argmax() == found.nearest[query]


def test_no_true_match():
    found = match_level(maps([1, 0], [0, 1]), maps([1, 0]), torch.zeros(2, 1, dtype=torch.bool))
    assert math.isnan(found.accuracy) and math.isnan(found.chance) and found.cosines.shape == (0, 1, 1)
    assert draw_matches([Image.new("RGB", (32, 32))] * 2, BOXES, {"p3": found}, "").width == 1200


def drawn(monkeypatch, levels):
    """The figures of the panels, the bar and the text, and the picture."""
    found = capture(monkeypatch)
    views = [Image.new("RGB", (32, 32), (90, 90, 90)), Image.new("RGB", (32, 32))]
    return draw_matches(views, BOXES, levels, "Some weights"), *found


def panel(picture, column):
    """Panel of the first row, (216, 216, 3)."""
    x = MARGIN + column * (SIDE + MARGIN)
    return np.asarray(picture)[MARGIN + LINE :, x : x + SIDE][:SIDE].astype(int)


def test_captions_count(monkeypatch):
    none = match_level(maps([1, 0]), maps([1, 0]), torch.zeros(1, 1, dtype=torch.bool))
    _, panels, bar, text = drawn(monkeypatch, {"p3": level(), "p4": none})
    said = " ".join(words(text))
    assert said.startswith("Some weights.") and "p3 1 of 2, 50% (by chance 50.0%); p4 none has one. View 1" in said
    titles = {
        "p3: view 1, 1 x 3": VIEW_COLOURS[0],
        "p3: view 2, mirrored, 1 x 2": VIEW_COLOURS[1],
        "pixel 1, right: 0.10 to 1.00": RIGHT,
        "pixel 2, wrong: 0.41 to 0.95": WRONG,
        "p4: view 1, 1 x 1": VIEW_COLOURS[0],
        "p4: view 2, mirrored, 1 x 1": VIEW_COLOURS[1],
    }
    assert {text.get_text(): text.get_color() for text in panels.texts} == titles
    assert words(bar) == ["lowest cosine", "highest"]
    assert [text for text in words(panels) if text.isdigit()] == ["1", "2"] * 2  # the queries, in either view


def test_bins_of_view_1_are_tinted_by_the_verdict(monkeypatch):
    picture, *_ = drawn(monkeypatch, {"p3": level()})
    bins = panel(picture, 0)[10:40].reshape(30, 3, 72, 3)[:, :, 2:-2]
    red, green, _ = bins.mean(axis=(0, 2)).T
    assert green[0] > red[0] + 20 and red[1] > green[1] + 20 and red[2] == green[2] == 90


def test_the_mark_stands_on_the_nearest_pixel(monkeypatch):
    picture, *_ = drawn(monkeypatch, {"p3": level()})
    for column, colour in ((2, RIGHT), (3, WRONG)):  # both are nearest to the first of two bins
        rows, columns = np.nonzero(near(panel(picture, column), colour, 40))
        assert columns.mean() == pytest.approx(54, abs=2) and rows.mean() == pytest.approx(108, abs=2)
