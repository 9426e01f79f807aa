"""Features as colours."""

import numpy as np
import pytest
import torch
from data_helpers import normal
from drawn import capture, words
from PIL import Image

from pixpro_d2.visualization.features import best_turn, draw_features, fit_basis, to_colours
from pixpro_d2.visualization.figures import size_of
from pixpro_d2.visualization.labels import overlap


def rotation(size, seed=0):
    return torch.linalg.qr(normal(size, size, seed=seed))[0]


def spread(pixels, channels, seed=0):
    """Features whose variance falls off over the channels, so that their components are well told apart."""
    return normal(pixels, channels, seed=seed) * torch.linspace(1, 0.2, channels) + 5


def test_coordinates_are_the_main_components_of_equal_scale():
    x = spread(200, 8)
    basis = fit_basis(x, normal(200, 3, seed=1))
    coordinates = basis.coordinates(x)
    # Centred, uncorrelated and of variance 1, however they were turned.
    torch.testing.assert_close(coordinates.mean(dim=0), torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(coordinates.T @ coordinates / 200, torch.eye(3), atol=1e-3, rtol=0)
    # They span what the three largest eigenvectors of the covariance matrix span.
    values, vectors = torch.linalg.eigh(torch.cov(x.T))
    expected = (x - x.mean(dim=0)) @ vectors[:, -3:]
    residual = expected - coordinates @ torch.linalg.lstsq(coordinates, expected).solution
    assert residual.abs().max() < 1e-3
    assert basis.share == pytest.approx((values[-3:].sum() / values.sum()).item(), abs=1e-4)


def test_equal_features_give_equal_colours():
    x = spread(60, 8)
    x[30:] = x[:30]
    basis = fit_basis(x, normal(60, 3, seed=1))
    colours = to_colours(basis.coordinates(x))
    assert torch.equal(colours[:30], colours[30:])
    assert torch.equal(colours, to_colours(fit_basis(x.clone(), normal(60, 3, seed=1)).coordinates(x)))


def test_a_rotated_space_is_turned_back():
    """Training may turn the whole space of features about: the picture stays."""
    x = spread(100, 12)
    before = fit_basis(x, normal(100, 3, seed=1)).coordinates(x)
    turned = (x - 2) @ rotation(12)
    torch.testing.assert_close(fit_basis(turned, before).coordinates(turned), before, atol=1e-3, rtol=0)
    elsewhere = fit_basis(turned, normal(100, 3, seed=2)).coordinates(turned)
    assert (elsewhere - before).abs().max() > 0.5  # the turn is the reference's doing


def test_colours_move_little_when_features_do():
    """Two components of nearly equal strength change places and signs from one set of features to the next."""
    scale = torch.tensor([1, 0.99, 0.98] + [0.1] * 5)
    x = normal(300, 8) * scale
    reference = fit_basis(x, normal(300, 3, seed=1)).coordinates(x)
    for seed in range(5):
        moved = x + 0.05 * normal(300, 8, seed=10 + seed)
        now = fit_basis(moved, reference).coordinates(moved)
        assert (now - reference).abs().mean() < 0.1


@pytest.mark.parametrize("order, signs", [((0, 1, 2), (1, -1, 1)), ((2, 0, 1), (1, 1, 1)), ((1, 0, 2), (-1, -1, -1))])
def test_signs_and_order_are_undone(order, signs):
    points = normal(50, 3)
    shuffled = points[:, list(order)] * torch.tensor(signs)
    torch.testing.assert_close(shuffled @ best_turn(shuffled, points), points, atol=1e-4, rtol=0)


def test_the_best_turn_beats_all_others():
    points, reference = normal(40, 3), normal(40, 3, seed=1)
    points, reference = points - points.mean(dim=0), reference - reference.mean(dim=0)
    best = best_turn(points, reference)
    torch.testing.assert_close(best @ best.T, torch.eye(3), atol=1e-5, rtol=0)
    error = (points @ best - reference).square().sum()
    assert all((points @ rotation(3, seed) - reference).square().sum() >= error for seed in range(50))


@pytest.mark.parametrize("x", [torch.full((20, 8), 0.3), torch.full((20, 8), float("nan")), torch.zeros(20, 2)])
def test_collapsed_features_are_grey(x):
    colours = to_colours(fit_basis(x, normal(20, 3)).coordinates(x))
    torch.testing.assert_close(colours, torch.full((20, 3), 0.5), atol=0.01, rtol=0)


def test_nearly_collapsed_features_are_pale():
    x = torch.nn.functional.normalize(torch.ones(100, 16) + 0.004 * normal(100, 16), dim=1)
    colours = to_colours(fit_basis(x, normal(100, 3)).coordinates(x))
    assert (colours - 0.5).abs().max() < 0.2


def test_fewer_pixels_than_colours():
    x = normal(2, 8)
    coordinates = fit_basis(x, normal(2, 3)).coordinates(x)
    assert coordinates.isfinite().all() and (coordinates[0] - coordinates[1]).norm() > 1


def colour_maps(images, grid, colour):
    return np.broadcast_to(np.array(colour, dtype=np.float32), (images, *grid, 3))


@pytest.mark.parametrize("count, stacked", [(1, False), (2, False), (3, True), (4, True), (5, True)])
def test_pictures_of_both_branches(monkeypatch, count, stacked):
    found = capture(monkeypatch)
    levels = {f"p{i}": (colour_maps(2, (4, 4), (1, 0, 0)), colour_maps(2, (4, 4), (0, 0, 1))) for i in range(count)}
    picture = draw_features([Image.new("RGB", (32, 32), (0, 255, 0))] * 2, levels, ["Some weights."])
    panels, text = found
    assert picture.width <= 1200 and len(panels.texts) == 2 * (1 + 2 * count) and words(text) == ["Some weights."]
    tiles = [(axes.get_position(), title.get_text()) for axes, title in zip(panels.axes, panels.texts)]
    images = [tile for tile in tiles if tile[1].startswith("image")]
    online, target = ([tile for tile in tiles if branch in tile[1]] for branch in ("online", "target"))
    for (first, _), (second, _) in zip(online, target):
        below, beside = second.y1 < first.y0, second.x0 > first.x1
        assert (below, beside) == (stacked, not stacked)
    assert online[0][1] == "p0 online, 4 x 4" and images[1][0].y1 < min(box.y0 for box, _ in tiles[: 1 + 2 * count])
    width, height = size_of(panels)
    for group, colour in ((images, (0, 255, 0)), (online, (255, 0, 0)), (target, (0, 0, 255))):
        for box, _ in group:
            middle = round(width * (box.x0 + box.x1) / 2), round(height * (1 - (box.y0 + box.y1) / 2))
            assert picture.getpixel(middle) == colour
    boxes = [(width * box.x0, height * (1 - box.y1) - 22, width * box.x1, height * (1 - box.y0)) for box, _ in tiles]
    assert all(a is b or overlap(a, b) < 1 for a in boxes for b in boxes)
    assert max(box[2] for box in boxes) <= picture.width - 20 + 0.1
