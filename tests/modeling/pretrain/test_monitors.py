"""Health of dense features, by hand."""

import math

import pytest
import torch
import torch.nn.functional as F

from pixpro_d2.modeling.pretrain.monitors import (
    effective_rank,
    feature_std,
    match_accuracy,
    matches,
    nearest_pixels,
    pair_counts,
    relative_distance,
    uniformity,
)


def maps(*pixels):
    """One image of two-dimensional features, a row of pixels: (1, 2, 1, L)."""
    return torch.tensor(pixels, dtype=torch.float32).T[None, :, None, :]


def test_nearest_pixels_go_by_direction_not_by_length():
    queries, keys = maps([1, 0], [0, 5]), maps([0.1, 0], [9, 8], [0, 0.2])
    assert nearest_pixels(queries, keys).tolist() == [[0, 2]]


def test_match_accuracy_counts_pixels_that_have_a_positive():
    queries, keys = maps([1, 0], [0, 1], [1, 1]), maps([1, 0.1], [0.1, 1])
    # The first is matched rightly, the second wrongly (its nearest is key 1), the third has no positive.
    positives = torch.tensor([[[True, False], [True, False], [False, False]]])
    assert match_accuracy(queries, keys, positives) == 0.5
    assert [int(x) for x in matches(queries, keys, positives)] == [1, 2]
    assert match_accuracy(queries, keys, torch.zeros_like(positives)).isnan()


def test_feature_std_of_collapsed_and_spread_features():
    assert feature_std(maps([2, 0], [3, 0], [0.5, 0])) == 0
    # Unit vectors e1, -e1, e2, -e2: each coordinate is 1, -1, 0, 0, with (unbiased) variance 2 / 3.
    assert feature_std(maps([3, 0], [-1, 0], [0, 2], [0, -7])) == pytest.approx(math.sqrt(2 / 3))


def test_pair_counts():
    positives = torch.zeros(4, 3, 3, dtype=torch.bool)
    positives[0, 0, :2] = True
    positives[1] = True
    pairs, without = pair_counts(positives)
    assert pairs == pytest.approx(11 / 4) and without == 0.5


def test_effective_rank_of_orthogonal_directions_is_their_number():
    axes = torch.eye(5)[:3]
    assert effective_rank(torch.cat((axes, -axes))) == pytest.approx(3)  # in five dimensions


def test_effective_rank_leaves_out_what_all_vectors_share():
    across, back = torch.eye(3)[:2], torch.tensor([0, 0, 0.8])
    assert effective_rank(torch.cat((0.6 * across, -0.6 * across)) + back) == pytest.approx(2)


def test_effective_rank_weighs_directions_by_their_singular_values():
    # Centred already. Singular values sqrt(2 * 16) and sqrt(2): shares of 4 / 5 and 1 / 5.
    first, second = torch.eye(2)
    vectors = torch.stack([first, -first] * 16 + [second, -second])
    assert effective_rank(vectors) == pytest.approx(math.exp(-0.8 * math.log(0.8) - 0.2 * math.log(0.2)))


def test_effective_rank_of_one_direction_is_1():
    direction = F.normalize(torch.arange(1.0, 9), dim=0)
    assert effective_rank(torch.stack([direction, -direction])) == pytest.approx(1)
    assert effective_rank(direction.repeat(50, 1)) == 1
    noise = 1e-7 * torch.randn(50, 8, generator=torch.Generator().manual_seed(0))
    assert effective_rank(F.normalize(direction + noise, dim=1)) == 1  # whatever rounding adds to it


def test_effective_rank_of_random_directions_is_close_to_all():
    vectors = F.normalize(torch.randn(4000, 8, generator=torch.Generator().manual_seed(0)), dim=1)
    assert 7.99 < effective_rank(vectors) < 8


def test_features_that_are_not_finite_have_no_rank():
    assert effective_rank(torch.tensor([[1.0, 0], [float("nan"), 0]])).isnan()


def test_uniformity():
    first, second = torch.eye(2)
    assert uniformity(torch.stack((first, -first))) == pytest.approx(-8)  # |x - y|^2 = 4
    assert uniformity(torch.stack((first, second))) == pytest.approx(-4)  # |x - y|^2 = 2
    assert uniformity(first.repeat(4, 1)) == pytest.approx(0)
    assert uniformity(first[None]) == 0
    # Pairs: one at distance 0, two at right angles.
    mean = (1 + 2 * math.exp(-4)) / 3
    assert uniformity(torch.stack((first, first, second))) == pytest.approx(math.log(mean))


def test_relative_distance_joins_all_tensors():
    references = [torch.tensor([3.0, 0]), torch.tensor([[4.0]])]  # norm 5
    moved = [torch.tensor([3.0, 1]), torch.tensor([[4.0 - math.sqrt(3)]])]  # by sqrt(1 + 3)
    assert relative_distance(moved, references) == pytest.approx(2 / 5)
    assert relative_distance(references, references) == 0
