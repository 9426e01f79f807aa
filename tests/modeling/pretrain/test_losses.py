import oracle
import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from pixpro_d2.modeling.pretrain.correspondence import positive_pairs
from pixpro_d2.modeling.pretrain.losses import byol_loss, pixcontrast_loss, pixpro_loss, variance_covariance
from pixpro_d2.utils.errors import UsageError

RATIO = 0.7
ONE = [oracle.IDENTICAL]
MIRRORED = [oracle.FLIPPED]
APART = ([oracle.DISJOINT[0]], [oracle.DISJOINT[1]])
MIXED = ([oracle.IDENTICAL, oracle.DISJOINT[0]], [oracle.IDENTICAL, oracle.DISJOINT[1]])


def pairs(q, k, boxes_q, boxes_k, ratio=RATIO):
    return positive_pairs(torch.tensor(boxes_q), torch.tensor(boxes_k), q.shape[2:], k.shape[2:], ratio)


def pixpro(q, k, boxes_q, boxes_k, ratio=RATIO, mean_over="all"):
    return pixpro_loss(q, k, pairs(q, k, boxes_q, boxes_k, ratio), mean_over)


def pixcontrast(q, k, boxes_q, boxes_k, tau=0.3):
    return pixcontrast_loss(q, k, pairs(q, k, boxes_q, boxes_k), tau)


def random_batch(n, c, h, w, seed):
    generator = torch.Generator().manual_seed(seed)
    return tuple(F.normalize(torch.randn(n, c, h, w, generator=generator), dim=1) for _ in range(2))


# feature shape, boxes_q, boxes_k, ratio, mean_over, loss
PIXPRO = [
    pytest.param((1, 4, 2, 2), ONE, ONE, RATIO, "all", -0.218058, id="T1"),
    pytest.param((1, 4, 2, 2), ONE, ONE, 0.72, "all", 0.058193, id="T1-ratio-.72"),
    pytest.param((1, 4, 2, 2), *APART, RATIO, "all", 0.0, id="T2"),
    pytest.param((1, 4, 2, 2), *APART, RATIO, "matched", 0.0, id="T2-matched"),
    pytest.param((1, 4, 2, 2), ONE, MIRRORED, RATIO, "all", 0.115489, id="T3-flipped-key"),
    pytest.param((1, 4, 2, 2), MIRRORED, MIRRORED, RATIO, "all", -0.218058, id="T3-both-flipped"),
    pytest.param((1, 4, 2, 2), ONE, [oracle.HALF], RATIO, "all", 0.136176, id="T4"),
    pytest.param((1, 4, 2, 2), ONE, [oracle.ZOOM], RATIO, "all", -0.303201, id="T5"),
    pytest.param((2, 4, 2, 2), *MIXED, RATIO, "all", -0.109029, id="T6-all"),
    pytest.param((2, 4, 2, 2), *MIXED, RATIO, "matched", -0.218058, id="T6-matched"),
    pytest.param((1, 4, 2, 3), *oracle.OBLONG, RATIO, "all", -0.071787, id="T7"),
    pytest.param((2, 8, 7, 7), *oracle.TWO_IMAGES, RATIO, "all", -0.005185, id="T8"),
]


@pytest.mark.parametrize("shape, boxes_q, boxes_k, ratio, mean_over, expected", PIXPRO)
def test_pixpro(shape, boxes_q, boxes_k, ratio, mean_over, expected):
    q, k = oracle.features(*shape)
    loss = pixpro(q, k, boxes_q, boxes_k, ratio, mean_over)
    assert loss.shape == ()
    assert loss.item() == pytest.approx(expected, abs=1e-5)
    slow = oracle.pixpro_loss_slow(q, k, boxes_q, boxes_k, ratio, mean_over)
    assert loss.item() == pytest.approx(slow.item(), abs=1e-5)


def test_pixpro_averages_over_all_images_by_default_T6():  # noqa: N802
    q, k = oracle.features(2, 4, 2, 2)
    assert pixpro_loss(q, k, pairs(q, k, *MIXED)).item() == pytest.approx(-0.109029, abs=1e-5)


def test_pixpro_of_equal_features_T1():  # noqa: N802
    q, _ = oracle.features(1, 4, 2, 2)
    assert pixpro(q, q, ONE, ONE).item() == pytest.approx(-2.0, abs=1e-5)
    both = pixpro(q, q, ONE, ONE) + pixpro(q, q, ONE, ONE)
    assert both.item() == pytest.approx(-4.0, abs=1e-5)


def test_pixpro_flip_by_coordinates_is_flip_of_features_T3():  # noqa: N802
    q, k = oracle.features(1, 4, 2, 2)
    assert pixpro(q, k.flip(-1), ONE, ONE).item() == pytest.approx(0.115489, abs=1e-5)


def test_pixpro_with_roles_swapped_T5():  # noqa: N802
    q, k = oracle.features(1, 4, 2, 2)
    assert pixpro(k, q, [oracle.ZOOM], ONE).item() == pytest.approx(-0.303201, abs=1e-5)


@pytest.mark.parametrize("mean_over", ["all", "matched"])
def test_pixpro_of_disjoint_views_T2(mean_over):  # noqa: N802
    q, k = oracle.features(1, 4, 2, 2)
    q.requires_grad_()
    loss = pixpro(q, k, *APART, mean_over=mean_over)
    loss.backward()
    assert loss.item() == 0.0
    assert torch.equal(q.grad, torch.zeros_like(q))


@pytest.mark.parametrize("mean_over", ["all", "matched"])
def test_pixpro_gradient_against_slow(mean_over):
    q, k = random_batch(3, 5, 3, 4, seed=0)
    boxes_q = [[0.0, 0.0, 0.6, 0.6], [0.9, 0.1, 0.1, 0.8], oracle.DISJOINT[0]]
    boxes_k = [[0.3, 0.2, 1.0, 0.9], [0.2, 0.3, 0.8, 1.0], oracle.DISJOINT[1]]
    fast_q, slow_q = q.clone().requires_grad_(), q.double().requires_grad_()
    fast = pixpro(fast_q, k, boxes_q, boxes_k, mean_over=mean_over)
    slow = oracle.pixpro_loss_slow(slow_q, k, boxes_q, boxes_k, RATIO, mean_over)
    assert fast.item() == pytest.approx(slow.item(), abs=1e-5)
    fast.backward()
    slow.backward()
    torch.testing.assert_close(fast_q.grad.double(), slow_q.grad, atol=1e-5, rtol=0)


def test_pixpro_stays_within_its_range():
    q, _ = random_batch(4, 3, 4, 4, seed=1)
    every = torch.ones(4, 16, 16, dtype=torch.bool)
    own = torch.eye(16, dtype=torch.bool).expand(4, 16, 16)
    assert -2 <= pixpro_loss(q, q, every).item() <= 2
    assert pixpro_loss(q, q, own).item() == pytest.approx(-2, abs=1e-5)
    assert pixpro_loss(q, -q, own).item() == pytest.approx(2, abs=1e-5)


# boxes_k, q to k, k to q, mean of both
PIXCONTRAST = [
    pytest.param(*APART, 0.0, 0.0, 0.0, id="T17-disjoint"),
    pytest.param(ONE, ONE, 1.430990, 2.356788, 1.893889, id="T17-identical"),
    pytest.param(ONE, [oracle.HALF], 1.429285, 3.495110, 2.462198, id="T17-half-overlap"),
    pytest.param(ONE, MIRRORED, 1.986903, 2.912701, 2.449802, id="T17-flip"),
    pytest.param(ONE, [oracle.ZOOM], 1.165923, 0.249731, 0.707827, id="T17-zoom"),
]


@pytest.mark.parametrize("boxes_q, boxes_k, there, back, mean", PIXCONTRAST)
def test_pixcontrast(boxes_q, boxes_k, there, back, mean):
    q, k = oracle.features(1, 4, 2, 2)
    forth_loss = pixcontrast(q, k, boxes_q, boxes_k)
    back_loss = pixcontrast(k, q, boxes_k, boxes_q)
    assert forth_loss.shape == ()
    assert forth_loss.item() == pytest.approx(there, abs=1e-5)
    assert back_loss.item() == pytest.approx(back, abs=1e-5)
    assert ((forth_loss + back_loss) / 2).item() == pytest.approx(mean, abs=1e-5)


@pytest.mark.parametrize(
    "box_k, expected",
    [
        pytest.param(oracle.IDENTICAL, 1.663462, id="T17-identical-tau-.2"),
        pytest.param(oracle.ZOOM, 1.548596, id="T17-zoom-tau-.2"),
    ],
)
def test_pixcontrast_with_another_temperature(box_k, expected):
    q, k = oracle.features(1, 4, 2, 2)
    assert pixcontrast(q, k, ONE, [box_k], tau=0.2).item() == pytest.approx(expected, abs=1e-5)


def test_pixcontrast_of_disjoint_views_T17():  # noqa: N802
    q, k = oracle.features(2, 4, 2, 2)
    q.requires_grad_()
    loss = pixcontrast(q, k, APART[0] * 2, APART[1] * 2)
    # Every rank has to run its backward pass, or the others would wait for it.
    loss.backward()
    assert loss.item() == 0.0
    assert torch.equal(q.grad, torch.zeros_like(q))


def test_pixcontrast_leaves_out_images_that_do_not_match():
    q, k = oracle.features(2, 4, 2, 2)
    q.requires_grad_()
    loss = pixcontrast(q, k, *MIXED)
    assert loss.item() == pytest.approx(1.430990, abs=1e-5)
    loss.backward()
    assert q.grad[0].abs().sum() > 0
    assert torch.equal(q.grad[1], torch.zeros_like(q.grad[1]))


@pytest.mark.parametrize("tau", [0.3, 0.005], ids=["tau-.3", "tau-.005"])
def test_pixcontrast_gradient_against_slow(tau):
    # exp(cosine / 0.005) overflows float32, so this also tells whether the logarithm is taken stably.
    q, k = random_batch(3, 5, 3, 4, seed=2)
    boxes_q = [[0.0, 0.0, 0.6, 0.6], [0.9, 0.1, 0.1, 0.8], oracle.DISJOINT[0]]
    boxes_k = [[0.3, 0.2, 1.0, 0.9], [0.2, 0.3, 0.8, 1.0], oracle.DISJOINT[1]]
    fast_q, slow_q = q.clone().requires_grad_(), q.double().requires_grad_()
    fast = pixcontrast(fast_q, k, boxes_q, boxes_k, tau)
    slow = oracle.pixcontrast_loss_slow(slow_q, k, boxes_q, boxes_k, RATIO, tau)
    assert fast.item() == pytest.approx(slow.item(), abs=1e-5, rel=1e-5)
    fast.backward()
    slow.backward()
    assert torch.isfinite(fast_q.grad).all()
    torch.testing.assert_close(fast_q.grad.double(), slow_q.grad, atol=1e-5, rtol=1e-3)


def test_pixcontrast_is_zero_if_every_pair_is_positive():
    q, k = random_batch(2, 5, 2, 2, seed=3)
    loss = pixcontrast_loss(q, k, torch.ones(2, 4, 4, dtype=torch.bool), 0.3)
    assert loss.item() == pytest.approx(0, abs=1e-6)


def instance_vectors():
    steps = torch.arange(8.0).view(2, 4)
    return F.normalize(steps.sin(), dim=1), F.normalize(steps.cos(), dim=1)


def test_byol_T12():  # noqa: N802
    a, b = instance_vectors()
    loss = byol_loss(a, b)
    assert loss.shape == ()
    assert loss.item() == pytest.approx(-0.192296, abs=1e-5)
    assert byol_loss(a, a).item() == pytest.approx(-2.0, abs=1e-5)


def test_byol_gradient_against_slow():
    a, b = instance_vectors()
    fast, slow = a.clone().requires_grad_(), a.double().requires_grad_()
    byol_loss(fast, b).backward()
    oracle.byol_loss_slow(slow, b).backward()
    torch.testing.assert_close(fast.grad.double(), slow.grad, atol=1e-6, rtol=0)


# Rows of one image (1, 2, 1, rows), by hand: unit vectors times sqrt(2), centred; variance + 1e-4 under the root.
TERMS = [
    # (r, 0), (-r, 0) with r = sqrt(2): variances 4 and 0, covariance 0
    pytest.param([[1, -1], [0, 0]], (1 - 0.01) / 2, 0.0, id="one channel"),
    # (r, 0), (-r, 0), (0, r), (0, -r): variances 4/3 each, covariance 0
    pytest.param([[1, -1, 0, 0], [0, 0, 1, -1]], 0.0, 0.0, id="spread"),
    # (1, 1), (-1, -1): variances 2, covariances 2, of which two: 2 * 4 / 2
    pytest.param([[1, -1], [1, -1]], 0.0, 4.0, id="correlated"),
    # the same vector everywhere
    pytest.param([[3, 5], [0, 0]], 1 - 0.01, 0.0, id="collapsed"),
]


@pytest.mark.parametrize("channels, variance, covariance", TERMS)
def test_variance_covariance(channels, variance, covariance):
    values = variance_covariance(torch.tensor(channels, dtype=torch.float32)[None, :, None])
    assert [value.item() for value in values] == pytest.approx([variance, covariance], abs=1e-6)


@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 1e-6), (torch.bfloat16, 1e-6)])
def test_variance_covariance_equals_the_slow_oracle(dtype, tolerance):
    x = torch.randn(3, 5, 2, 4, generator=torch.Generator().manual_seed(0)).to(dtype)
    fast, slow = x.clone().requires_grad_(), x.double().requires_grad_()
    values, expected = variance_covariance(fast), oracle.variance_covariance_slow(slow)
    torch.testing.assert_close(torch.stack(values).double(), torch.stack(expected), atol=tolerance, rtol=0)
    if dtype == torch.float32:
        (2 * values[0] + values[1]).backward()
        (2 * expected[0] + expected[1]).backward()
        torch.testing.assert_close(fast.grad.double(), slow.grad, atol=1e-5, rtol=1e-4)


def test_the_gradient_of_collapsed_projections_is_finite():
    x = torch.ones(2, 4, 3, 3, requires_grad=True)
    sum(variance_covariance(x)).backward()
    assert x.grad.isfinite().all()


def test_one_row_has_no_variance():
    with pytest.raises(UsageError, match="need two pixels or more"):
        variance_covariance(torch.ones(1, 4, 1, 1))
