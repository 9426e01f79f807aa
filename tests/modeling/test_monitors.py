"""Health of dense features, by hand."""

import math

import pytest
import torch

from pixpro_d2.modeling.monitors import feature_std, match_accuracy, matches, nearest_pixels, pair_counts


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
