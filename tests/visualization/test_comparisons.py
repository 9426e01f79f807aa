"""From what a model makes of views to pictures."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from data_helpers import normal
from PIL import Image

from pixpro_d2.modeling.pretrain.methods import LevelView
from pixpro_d2.modeling.pretrain.two_branch import LevelComparison
from pixpro_d2.visualization import comparisons as module
from pixpro_d2.visualization.comparisons import picture_attention, picture_features, picture_matches, with_pixels

IMAGES = [Image.fromarray(np.random.default_rng(i).integers(0, 256, (16, 16, 3), dtype=np.uint8)) for i in range(2)]
BOXES = np.array([[0, 0, 9, 9], [9, 0, 0, 9]])


def comparison(side, seed=0, channels=6):
    """Of two images, with features of ``side`` x ``side`` pixels and a projection of another width."""
    shape = 2, channels, side, side
    unit = normal(2, 4, side, side)
    projection = normal(2, 4, side, side, seed=seed + 50)
    views = [
        LevelView(unit, unit, normal(*shape, seed=seed + i), normal(*shape, seed=seed + 10 + i), projection)
        for i in range(2)
    ]
    positives = torch.eye(side * side, dtype=torch.bool).expand(2, -1, -1)
    return LevelComparison(tuple(views), positives, positives)


class Gammas:
    """Modules of a level that have a sharpness."""

    def __init__(self, **gammas):
        self.gammas = gammas

    def __getitem__(self, level):
        return type("Module", (), {"gamma": self.gammas[level]})


def test_levels_of_a_single_pixel_are_left_out():
    levels = {"p3": comparison(4), "p6": comparison(1), "p5": comparison(2)}
    assert list(with_pixels(levels)) == ["p3", "p5"]


def test_attention_of_the_projection(monkeypatch):
    seen = []
    monkeypatch.setattr(module, "draw_attention", lambda *args: seen.append(args))
    x = comparison(4)
    picture_attention({"p3": x, "p6": comparison(1)}, 1, Gammas(p3=3.0), IMAGES[1], "Some weights")
    ((view, maps, note),) = seen
    assert view is IMAGES[1] and note == "Some weights" and list(maps) == ["p3"]
    pixels, weights = maps["p3"]
    unit = F.normalize(x.projection[1], dim=0).flatten(1)
    expected = (unit[:, pixels].T @ unit).clamp(min=0) ** 3
    np.testing.assert_allclose(weights.reshape(len(pixels), -1), expected.numpy(), atol=1e-5)


def test_matches_of_the_backbones_features(monkeypatch):
    seen = []
    monkeypatch.setattr(module, "draw_matches", lambda *args: seen.append(args))
    x = comparison(4)
    picture_matches({"p3": x}, 1, IMAGES, BOXES, "Some weights")
    ((views, boxes, levels, note),) = seen
    first, second = (F.normalize(view.features[1], dim=0).flatten(1) for view in x.views)
    assert views is IMAGES and boxes is BOXES and note == "Some weights"
    np.testing.assert_array_equal(levels["p3"].nearest, (first.T @ second).argmax(dim=1).numpy())


def features_of(monkeypatch, comparisons, references=None):
    """(levels that are drawn, notes, references that come back)."""
    seen = []
    monkeypatch.setattr(module, "draw_features", lambda *args: seen.append(args))
    _, references = picture_features(comparisons, IMAGES, "Some weights", references)
    ((images, levels, notes),) = seen
    assert images is IMAGES
    return levels, notes, references


def test_features_of_both_branches_have_one_basis(monkeypatch):
    x = comparison(4)
    same = LevelView(x.views[0].queries, x.views[0].keys, x.views[0].features, x.views[0].features.flip(0))
    both = LevelComparison((same, same), x.positives, x.positives_back)
    levels, notes, references = features_of(monkeypatch, {"p3": both})
    online, target = levels["p3"]
    assert online.shape == (2, 4, 4, 3) and online.min() >= 0 and online.max() <= 1
    np.testing.assert_allclose(target, online[::-1], atol=1e-5)
    assert references["p3"].shape == (32, 3)
    assert notes[0].startswith("Some weights.") and "p3" in notes[1] and "(0.408)" in notes[1]  # 1 / sqrt(6)


def test_colours_are_kept_from_one_picture_to_the_next(monkeypatch):
    x = comparison(4)
    before, _, references = features_of(monkeypatch, {"p3": x})
    turn = torch.linalg.qr(normal(6, 6, seed=3))[0]
    view = x.views[0]
    turned = LevelView(
        view.queries,
        view.keys,
        *(torch.einsum("nchw,cd->ndhw", f, turn) for f in (view.features, view.target_features)),
    )
    moved = {"p3": LevelComparison((turned, turned), x.positives, x.positives_back)}
    after, _, _ = features_of(monkeypatch, moved, references)
    for branch in range(2):
        np.testing.assert_allclose(after["p3"][branch], before["p3"][branch], atol=2e-3)
    assert references["p3"].shape == (32, 3)  # and what was handed in is not changed
    other, _, _ = features_of(monkeypatch, moved, {"p3": normal(32, 3)})
    assert np.abs(other["p3"][0] - before["p3"][0]).max() > 0.1


def test_references_of_other_views_are_of_no_use(monkeypatch):
    fresh, _, _ = features_of(monkeypatch, {"p3": comparison(4)})
    again, _, _ = features_of(monkeypatch, {"p3": comparison(4)}, {"p3": normal(7, 3), "p9": normal(7, 3)})
    np.testing.assert_array_equal(fresh["p3"][0], again["p3"][0])


@pytest.mark.parametrize("value", [float("nan"), 0.0])
def test_ruined_features_are_drawn(value):
    x = comparison(4)
    for view in x.views:
        view.features.fill_(value)
        view.target_features.fill_(value)
    x.projection.fill_(value)
    assert picture_features({"p3": x}, IMAGES, "")[0].height > 100
    assert picture_attention({"p3": x}, 0, Gammas(p3=2.0), IMAGES[0], "").height > 100
    assert picture_matches({"p3": x}, 0, IMAGES, BOXES, "").height > 100
