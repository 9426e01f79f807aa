"""Ridge regression and its scores, against NumPy's least squares and by hand."""

import math

import numpy as np
import pytest
import torch

from pixpro_d2.evaluation.linear_probe import mean_iou, ridge, ridge_classes, ridge_r2


def test_ridge_is_least_squares_with_rows_for_the_penalty():
    rng = np.random.default_rng(0)
    x, y, strength = rng.normal(3, 2, (40, 5)), rng.normal(size=(40, 2)), 0.1
    weights, offset = ridge(torch.tensor(x), torch.tensor(y), strength)
    standard = (x - x.mean(0)) / x.std(0)
    rows = np.concatenate([standard, np.sqrt(strength * 40) * np.eye(5)])
    solved = np.linalg.lstsq(rows, np.concatenate([y - y.mean(0), np.zeros((5, 2))]), rcond=None)[0]
    np.testing.assert_allclose(x @ weights.numpy() + offset.numpy(), standard @ solved + y.mean(0), atol=1e-10)


def test_r2_by_hand():
    fit, heights = torch.tensor([[0.0, 7], [1, 7], [2, 7]]), torch.tensor([1.0, 3, 5])  # a constant channel is ignored
    assert ridge_r2((fit, torch.tensor([[3.0, 7], [4, 7]])), (heights, torch.tensor([7.0, 9])), 0) == pytest.approx(1)
    # without any information the mean of the fit, 3, is predicted: 1 - (1 + 9) / (1 + 1)
    blind = torch.full((3, 1), 7.0)
    assert ridge_r2((blind, blind[:2]), (heights, torch.tensor([4.0, 6]))) == pytest.approx(-4)
    assert math.isnan(ridge_r2((fit, fit), (heights, torch.ones(3))))


def test_classes_of_separate_clusters():
    fit = torch.tensor([[0.0, 0], [0, 1], [9, 0], [9, 1]])
    found = ridge_classes((fit, torch.tensor([[1.0, 0], [8, 1]])), torch.tensor([2, 2, 0, 0]), 3)
    assert found.tolist() == [2, 0]


def test_mean_iou_by_hand():
    # class 0: 1 of 2, class 1: 2 of 4, class 2: only predicted, class 3: never
    predicted, labels = torch.tensor([0, 1, 1, 1, 2]), torch.tensor([0, 0, 1, 1, 1])
    assert mean_iou(predicted, labels, 4) == pytest.approx((1 / 2 + 2 / 4) / 2)
