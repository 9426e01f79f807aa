"""Mistakes that an earlier re-implementation of PixContrast made: each written out, and told from the right result.

Every test states the right number (worked out by hand, or of the specification's cases), that the package gives
it, and that the mistake gives another one on the same input.
"""

import copy
import math
from types import SimpleNamespace

import oracle
import pytest
import torch
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage

import configs
from pixpro_d2.engine.hooks import EMAHook
from pixpro_d2.modeling.pretrain.correspondence import positive_pairs
from pixpro_d2.modeling.pretrain.losses import pixcontrast_loss

RATIO, TAU = 0.7, 0.3


def pairs(boxes_q, boxes_k, grid=(2, 2)):
    return positive_pairs(torch.tensor(boxes_q), torch.tensor(boxes_k), grid, grid, RATIO)


def by_formula(q, k, positives, tau=TAU):
    """The loss of one direction with masks from anywhere: per pixel, over pixels with a positive, over images."""
    images = []
    for n in range(len(q)):
        similarity = torch.exp(q[n].flatten(1).T.double() @ k[n].flatten(1).double() / tau)
        matched = positives[n].any(dim=1)
        shares = (similarity * positives[n]).sum(dim=1)[matched] / similarity.sum(dim=1)[matched]
        if matched.any():
            images.append(-shares.log().mean())
    return sum(images) / len(images) if images else None


# The mistakes ----------------------------------------------------------------------------------------------------


def transposed_mask(positives):
    """Similarities of (query, key), mask of (key, query)."""
    return positives.transpose(1, 2)


def twice_divided_distance(box_q, box_k, grid):
    """The unit of distance is the crop's diagonal divided by the grid's side twice instead of once."""
    centers_q, centers_k = (torch.tensor(oracle.bin_centers_slow(box, grid)) for box in (box_q, box_k))
    diagonal = math.hypot(box_q[2] - box_q[0], box_q[3] - box_q[1])
    return (torch.cdist(centers_q, centers_k) / (diagonal / grid[0] / grid[1]) < RATIO)[None]


def corners(box, grid):
    """Grid points from edge to edge of the crop instead of bin centres."""
    xs = torch.linspace(box[0], box[2], grid[1])
    ys = torch.linspace(box[1], box[3], grid[0])
    return torch.cartesian_prod(ys, xs).flip(1)


def corners_for_centers(box_q, box_k, grid):
    distances = torch.cdist(corners(box_q, grid), corners(box_k, grid))
    return (distances / oracle.bin_diagonal_slow(box_q, grid) < RATIO)[None]


def own_diagonal(box_q, box_k, grid):
    """Distances in units of the query crop's bin diagonal instead of the larger one."""
    centers_q, centers_k = (torch.tensor(oracle.bin_centers_slow(box, grid)) for box in (box_q, box_k))
    return (torch.cdist(centers_q, centers_k) / oracle.bin_diagonal_slow(box_q, grid) < RATIO)[None]


def one_logarithm(q, k, positives, tau=TAU):
    """The logarithm of the share that all positives of a batch have in all pairs: unmatched pixels repel every key."""
    similarity = torch.exp(q.flatten(2).transpose(1, 2) @ k.flatten(2) / tau)
    return -((similarity * positives).sum() / similarity.sum()).log()


def mean_over_all_pixels(q, k, positives, tau=TAU):
    """Pixels without a positive count as 0 in the mean."""
    matched = positives.any(dim=2)
    return by_formula(q, k, positives, tau) * matched.sum() / matched.numel()


def no_loss_without_positives(q, k, positives, tau=TAU):
    """A process without positive pairs has nothing to differentiate."""
    return pixcontrast_loss(q, k, positives, tau) if positives.any() else torch.zeros(())


# Each against the right result -----------------------------------------------------------------------------------


def test_mask_and_similarities_have_one_orientation():
    """T17, half overlap: queries 1 and 3 match keys 0 and 2."""
    q, k = oracle.features(1, 4, 2, 2)
    positives = pairs([oracle.IDENTICAL], [oracle.HALF])
    assert positives[0].nonzero().tolist() == [[1, 0], [3, 2]]
    right = pixcontrast_loss(q, k, positives, TAU).item()
    assert right == pytest.approx(1.429285, abs=1e-5)
    assert right == pytest.approx(by_formula(q, k, positives).item(), abs=1e-5)
    wrong = by_formula(q, k, transposed_mask(positives)).item()
    assert abs(wrong - right) > 0.1


@pytest.mark.parametrize("shift, of_the_mistake", [(0, 49), (4, 49), (8, 0), (16, 0)])
def test_distance_is_divided_by_the_grid_once(shift, of_the_mistake):
    """Two 224-pixel crops on a 7 x 7 grid: bins of 32 pixels, unit 32 * sqrt(2) = 45.25, threshold 31.7 pixels.

    Shifted by s in (0, 31.7) a bin matches its twin (distance s) and the left one (distance 32 - s, if below
    31.7): 49 + 7 * 6 = 91 pairs. The mistake's threshold is 4.5 pixels: 49 pairs at 4, none from 5 to 27.
    """
    box_q, box_k = [0.0, 0.0, 224.0, 224.0], [float(shift), 0.0, 224.0 + shift, 224.0]
    positives = pairs([box_q], [box_k], (7, 7))
    assert positives.sum() == (91 if shift else 49)
    wrong = twice_divided_distance(box_q, box_k, (7, 7))
    assert wrong.sum() == of_the_mistake
    if shift:
        q, k = oracle.features(1, 8, 7, 7)
        right = pixcontrast_loss(q, k, positives, TAU).item()
        assert right == pytest.approx(oracle.pixcontrast_loss_slow(q, k, [box_q], [box_k], RATIO, TAU).item(), abs=1e-5)
        assert abs(pixcontrast_loss(q, k, wrong, TAU).item() - right) > 0.1


def test_points_are_bin_centers():
    """T17, half overlap: centres at x .25 .75 and .75 1.25 coincide; corners at 0 1 and .5 1.5 are .5 apart.

    The threshold is .7 * sqrt(.5) = .495, so corners give no pair at all.
    """
    q, k = oracle.features(1, 4, 2, 2)
    wrong = corners_for_centers(oracle.IDENTICAL, oracle.HALF, (2, 2))
    assert wrong.sum() == 0
    right = pixcontrast_loss(q, k, pairs([oracle.IDENTICAL], [oracle.HALF]), TAU).item()
    assert right == pytest.approx(1.429285, abs=1e-5)
    assert pixcontrast_loss(q, k, wrong, TAU).item() == 0


def test_unit_of_distance_is_the_larger_diagonal():
    """T17, zoom, from the zoomed view to the whole one: bins of .25 and .5, diagonals .3536 and .7071.

    The threshold is .7 * .7071 = .495: the bin at (.375, .125) matches those at (.25, .25) and (.75, .25), the latter
    at a distance of .395. By the mistake it is .2475, and each bin matches only the one that it lies in.
    """
    q, k = oracle.features(1, 4, 2, 2)
    positives = pairs([oracle.ZOOM], [oracle.IDENTICAL])
    assert positives[0].nonzero().tolist() == [[0, 0], [1, 0], [1, 1], [2, 0], [2, 2], [3, 0], [3, 1], [3, 2]]
    right = pixcontrast_loss(k, q, positives, TAU).item()
    assert right == pytest.approx(0.249731, abs=1e-5)
    wrong = own_diagonal(oracle.ZOOM, oracle.IDENTICAL, (2, 2))
    assert wrong[0].nonzero().tolist() == [[0, 0], [1, 0], [2, 0], [3, 0]]
    assert abs(pixcontrast_loss(k, q, wrong, TAU).item() - right) > 0.05


def test_logarithm_is_taken_per_pixel():
    """One image with identical and one with half-overlapping views.

    The mean of the two images, each a mean over pixels; on the first alone both kinds differ as well (T17).
    """
    q, k = oracle.features(1, 4, 2, 2)
    identical, half = pairs([oracle.IDENTICAL] * 2, [oracle.IDENTICAL, oracle.HALF]).split(1)
    assert pixcontrast_loss(q, k, identical, TAU).item() == pytest.approx(1.430990, abs=1e-5)
    assert abs(one_logarithm(q, k, identical).item() - 1.430990) > 0.05
    both = pixcontrast_loss(q.repeat(2, 1, 1, 1), k.repeat(2, 1, 1, 1), torch.cat((identical, half)), TAU).item()
    assert both == pytest.approx((1.430990 + 1.429285) / 2, abs=1e-5)
    wrong = one_logarithm(q.repeat(2, 1, 1, 1), k.repeat(2, 1, 1, 1), torch.cat((identical, half))).item()
    assert abs(wrong - both) > 0.05


def test_pixels_outside_the_intersection_repel_nothing():
    """T17, half overlap: queries 0 and 2 have no positive; they get no gradient and are not counted."""
    q, k = oracle.features(1, 4, 2, 2)
    positives = pairs([oracle.IDENTICAL], [oracle.HALF])
    gradients = {}
    for loss in (pixcontrast_loss, one_logarithm):
        queries = q.clone().requires_grad_()
        loss(queries, k, positives, TAU).backward()
        gradients[loss] = queries.grad[0].flatten(1).norm(dim=0)
    outside, inside = [0, 2], [1, 3]
    assert torch.equal(gradients[pixcontrast_loss][outside], torch.zeros(2))
    assert (gradients[pixcontrast_loss][inside] > 0.1).all()
    assert (gradients[one_logarithm][outside] > 0.05).all()
    right = pixcontrast_loss(q, k, positives, TAU).item()
    assert right == pytest.approx(1.429285, abs=1e-5)
    assert mean_over_all_pixels(q, k, positives).item() == pytest.approx(1.429285 / 2, abs=1e-5)


def tiny_model(*opts):
    torch.manual_seed(0)
    opts = ("MODEL.BACKBONE.NAME", "build_resnet_backbone", "MODEL.RESNETS.OUT_FEATURES", ["res5"], *opts)
    opts += ("MODEL.PIXPRO.IN_FEATURES", ["res5"], "MODEL.PIXPRO.METHOD", "pixcontrast", "MODEL.PIXPRO.MOMENTUM", 0.99)
    return build_model(configs.tiny(*opts, "MODEL.PIXPRO.PPM.ENABLED", False)).train()


def losses_of(model, box_q, box_k):
    batch = {
        "views": torch.randint(0, 256, (2, 2, 3, 64, 64), dtype=torch.uint8),
        "boxes": torch.tensor([[box_q, box_k]] * 2),
        "image_sizes": torch.ones(2, 2),
    }
    with EventStorage():
        return model(batch)


@pytest.mark.parametrize("instance", [0.0, 1.0], ids=["pixels", "with-instance-branch"])
def test_a_process_without_positives_still_has_a_gradient_everywhere(instance):
    """DistributedDataParallel waits for every parameter of every process; all gradients of the pixel loss are 0."""
    model = tiny_model("MODEL.PIXPRO.INSTANCE.WEIGHT", instance)
    losses = losses_of(model, *oracle.DISJOINT)
    assert losses["loss_pix_res5"].item() == 0
    sum(losses.values()).backward()
    trained = [(name, p.grad) for name, p in model.named_parameters() if p.requires_grad]
    assert all(grad is not None and torch.isfinite(grad).all() for _, grad in trained)
    assert all(not grad.any() for name, grad in trained if name.startswith("projector.") or not instance)

    q, k = oracle.features(1, 4, 2, 2)
    positives = pairs([oracle.DISJOINT[0]], [oracle.DISJOINT[1]])
    assert pixcontrast_loss(q.requires_grad_(), k, positives, TAU).requires_grad
    assert not no_loss_without_positives(q, k, positives).requires_grad


def test_target_moves_once_in_an_iteration():
    """Weight w of the target after one iteration, from target 0 and online 1: 1 - m. Two updates: 1 - m^2.

    m is that of update 1 of 4: 1 - .01 * (cos(pi / 4) + 1) / 2 = 0.991464. Neither forward pass may move it.
    """
    model = tiny_model()
    pair = (model.projector["res5"][3].weight, model.target_projector["res5"][3].weight)
    with torch.no_grad():
        pair[0].fill_(1.0)
        pair[1].zero_()
    hook = EMAHook(model)
    hook.trainer = SimpleNamespace(iter=0, max_iter=4, storage=EventStorage())
    hook.before_train()
    before = copy.deepcopy([p for _, target in model.momentum_pairs() for p in target.parameters()])
    losses_of(model, oracle.IDENTICAL, oracle.HALF)
    after = [p for _, target in model.momentum_pairs() for p in target.parameters()]
    assert all(torch.equal(a, b) for a, b in zip(before, after))
    hook.after_step()
    once, twice = 1 - 0.991464, 1 - 0.991464**2
    torch.testing.assert_close(pair[1], torch.full_like(pair[1], once), atol=1e-6, rtol=0)
    assert twice - once > 1e-3


def test_momentum_does_not_end_early():
    """The mistake adds sin(pi / 2 * calls / epochs) * (1 - m) in each of two calls an iteration: 1 after 50 of 100.

    Ours is the cosine from 0.99, at half of the run 0.995.
    """
    wrong = 0.99
    for call in range(1, 2 * 50 + 1):
        wrong += math.sin(math.pi / 2 * call / 100) * (1 - wrong)
    assert wrong == pytest.approx(1, abs=1e-9)
    hook = EMAHook(tiny_model())
    hook.trainer = SimpleNamespace(iter=49, max_iter=100, storage=EventStorage())
    hook.before_train()
    hook.after_step()
    assert hook.trainer.storage.latest()["ema_momentum"][0] == pytest.approx(0.995, abs=1e-6)
