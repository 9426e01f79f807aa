import pytest
import torch

from pixpro_d2.modeling.pretrain import chunks
from pixpro_d2.modeling.pretrain.correspondence import positive_pairs
from pixpro_d2.modeling.pretrain.losses import pixpro_loss
from pixpro_d2.modeling.pretrain.ppm import _Propagate, propagate


@pytest.mark.parametrize(
    "images, pixels, others, limit, sizes",
    [
        (5, 10, 10, 1000, [5]),  # 500 pairs: all at once
        (5, 10, 10, 200, [2, 2, 1]),  # 100 pairs an image: two at a time
        (3, 10, 40, 399, [1, 1, 1]),  # 400 pairs an image: one is always taken
    ],
)
def test_parts_hold_as_many_images_as_fit(images, pixels, others, limit, sizes):
    parts = chunks.image_chunks(images, pixels * others, limit)
    covered = [list(range(images))[part] for part in parts]
    assert [len(x) for x in covered] == sizes and sum(covered, []) == list(range(images))


@pytest.fixture
def one_image_at_a_time(monkeypatch):
    whole = chunks.image_chunks
    for module in ("ppm", "losses", "correspondence"):
        monkeypatch.setattr(f"pixpro_d2.modeling.pretrain.{module}.image_chunks", lambda *x: whole(*x, max_pairs=1))


def plain_propagation(x, values, gamma):
    """All weights at once, by autograd."""
    x = torch.nn.functional.normalize(x, dim=1).flatten(2)
    similarity = (x.transpose(1, 2) @ x).clamp(min=0)
    weights = (similarity + 1e-6 if gamma < 1 else similarity) ** gamma
    return (torch.nn.functional.normalize(values, dim=1).flatten(2) @ weights).view_as(values)


@pytest.mark.parametrize("gamma", [0.5, 1, 2, 4])
def test_propagation_in_parts_and_its_gradient_equal_autograds(one_image_at_a_time, gamma):
    torch.manual_seed(0)
    inputs = [torch.randn(3, 4, 2, 5).requires_grad_() for _ in range(2)]
    copies = [x.detach().clone().requires_grad_() for x in inputs]
    direction = torch.randn(3, 4, 2, 5)
    actual, expected = propagate(*inputs, gamma), plain_propagation(*copies, gamma)
    torch.testing.assert_close(actual, expected)
    (actual * direction).sum().backward()
    (expected * direction).sum().backward()
    for x, y in zip(inputs, copies):
        torch.testing.assert_close(x.grad, y.grad, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("gamma", [1, 2, 4])
def test_gradient_of_the_propagation_by_differences(gamma):
    torch.manual_seed(1)
    features = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    values = torch.randn(2, 5, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda f, v: _Propagate.apply(f, v, gamma), (features, values))


def test_pairs_in_parts_equal_those_of_each_image(one_image_at_a_time):
    torch.manual_seed(3)
    corners = torch.rand(4, 2, 2)
    boxes_q, boxes_k = (torch.cat([corner, corner + 0.5], dim=1) for corner in corners.unbind(1))
    mask = positive_pairs(boxes_q, boxes_k, (3, 2), (2, 4), 0.7)
    apart = [positive_pairs(q, k, (3, 2), (2, 4), 0.7) for q, k in zip(boxes_q.split(1), boxes_k.split(1))]
    assert mask.shape == (4, 6, 8) and torch.equal(mask, torch.cat(apart)) and mask.any()


def test_loss_in_parts_equals_the_loss_at_once(one_image_at_a_time):
    torch.manual_seed(2)
    q, k = (torch.nn.functional.normalize(torch.randn(3, 4, 2, 3), dim=1) for _ in range(2))
    q.requires_grad_()
    positives = torch.rand(3, 6, 6) < 0.3
    cosines = torch.einsum("ncq,nck->nqk", q.flatten(2), k.flatten(2))
    expected = -2 * ((cosines * positives).sum(dim=(1, 2)) / (positives.sum(dim=(1, 2)) + 1e-6)).mean()
    loss = pixpro_loss(q, k, positives)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(*torch.autograd.grad(loss, q), *torch.autograd.grad(expected, q))
