"""The plain reference step computes the same, and its pieces what the slow oracle says."""

import oracle
import pytest
import torch
from benchmark_helpers import C5, FPN, measured
from torch.utils.flop_counter import FlopCounterMode

from pixpro_d2.extras.benchmark import timing
from pixpro_d2.extras.benchmark.plain_lars import PerTensorLARS
from pixpro_d2.extras.benchmark.plain_loss import propagate, regression_loss
from pixpro_d2.extras.benchmark.reference import ReferenceStep
from pixpro_d2.extras.benchmark.step import TrainingStep, build_start
from pixpro_d2.extras.benchmark.timing import time_parts
from pixpro_d2.extras.benchmark.updates import UpdateStep
from pixpro_d2.modeling.pretrain.ppm import PixelPropagation
from pixpro_d2.utils.errors import UsageError


@pytest.fixture(autouse=True)
def precision():
    """Put back what both steps set for their processes."""
    matmul, convolutions = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    yield
    torch.set_float32_matmul_precision(matmul)
    torch.backends.cudnn.allow_tf32 = convolutions


def flat(module):
    return torch.cat([p.detach().flatten() for p in module.parameters()])


@pytest.mark.parametrize(
    "config, opts",
    [
        (C5, ("MODEL.PIXPRO.PPM.ENABLED", False)),
        (C5, ("MODEL.PIXPRO.PPM.GAMMA", 0.5, "MODEL.PIXPRO.PPM.NUM_LAYERS", 2)),
        (FPN, ()),
    ],
    ids=["C5 without PPM", "C5", "FPN"],
)
def test_the_same_losses_and_weights(config, opts):
    farther = ("SOLVER.WARMUP_FACTOR", 0.1, "MODEL.PIXPRO.MOMENTUM", 0.9)  # than rounding
    cfg = measured(config, *farther, *opts)
    ours, reference = TrainingStep(cfg, read_period=1), ReferenceStep(cfg)
    start = [p.detach().clone() for p in reference.model.parameters()]
    losses = []
    for _ in range(4):
        # The reference moves its target at the start of a step, ours has moved at the end of the one before.
        target = flat(ours.model.target_backbone)
        ours.step(), reference.step()
        assert reference.values() == pytest.approx(ours.values(), abs=1e-4)
        losses.append(sum(ours.values()))
    assert max(losses) - min(losses) > 1e-3  # something was learned that could have differed
    for (name, got), expected, before in zip(
        ours.model.named_parameters(), reference.model.parameters(), start, strict=True
    ):
        if not name.startswith("target_"):
            rounding = 1e-6 * (1 + expected.norm())
            assert (got - expected).norm() <= 0.02 * (expected - before).norm() + rounding, name
    expected, before = (flat(model.target_backbone) for model in (reference.model, build_start(cfg)))
    assert (target - expected).norm() < 0.02 * (expected - before).norm()


def test_parts_are_those_of_our_step():
    cfg = measured(FPN)
    reference = ReferenceStep(cfg)
    parts = time_parts(reference, 1)
    assert list(parts) == [*TrainingStep(cfg).parts, "rest"] and all(seconds > 0 for seconds in parts.values())


def test_parts_hold_the_same_arithmetic(monkeypatch):
    """Forward; a clock that counts operations stands for that of the parts."""
    cfg = measured(FPN)
    with FlopCounterMode(display=False) as counter:
        monkeypatch.setattr(timing.time, "perf_counter", counter.get_total_flops)
        ours, reference = time_parts(TrainingStep(cfg), 1), time_parts(ReferenceStep(cfg), 1)
    parts = ("forward online", "forward target", "PPM", "correspondence and loss")
    assert [ours[part] for part in parts] == [reference[part] for part in parts] and all(ours[part] for part in parts)


def test_normalisation_is_part_of_the_loss():
    reference = ReferenceStep(measured(C5))
    images = torch.randn(2, 3, 64, 64)
    for (projection,) in (reference.online(images).values(), reference.target(images).values()):
        assert not torch.allclose(projection.norm(dim=1), torch.tensor(1.0), atol=0.01)


def test_updates_alone_are_the_same():
    cfg = measured(FPN)
    ours, reference = UpdateStep(TrainingStep(cfg)), UpdateStep(ReferenceStep(cfg))
    start = reference.values()
    for side in (ours, reference):
        for _ in range(3):
            side.prepare()
            side.step()
    assert reference.values() == pytest.approx(ours.values(), rel=1e-5, abs=1e-6)
    assert reference.values() != pytest.approx(start, rel=1e-5, abs=1e-6)


def test_gradients_are_fresh_for_every_update():
    """An optimiser may change them in place."""
    updates = UpdateStep(TrainingStep(measured(C5)))
    weight = updates.training.model.backbone.stem.conv1.weight
    updates.prepare()
    first = weight.grad.clone()
    updates.step()
    weight.grad.zero_()
    updates.prepare()
    assert torch.equal(weight.grad, first)


@pytest.mark.parametrize("boxes", [oracle.OBLONG, oracle.TWO_IMAGES], ids=["oblong", "two images"])
def test_loss_of_a_direction(boxes):
    n = len(boxes[0])
    q, k = oracle.features(n, 4, 3, 5)
    expected = oracle.pixpro_loss_slow(q, k, *boxes, 0.7)
    assert abs(expected) > 1e-3
    assert regression_loss(q, k, *map(torch.tensor, boxes), 0.7).item() == pytest.approx(expected.item(), abs=1e-6)


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
def test_propagation(gamma):
    torch.manual_seed(0)
    ppm, x = PixelPropagation(4, 1, gamma), torch.randn(2, 4, 2, 3)
    expected = oracle.ppm_slow(x, ppm.value_transform(x), gamma)
    torch.testing.assert_close(propagate(x, ppm), expected.float(), atol=1e-5, rtol=1e-5)


def test_lars_in_a_loop():
    torch.manual_seed(0)
    params = [torch.randn(3, 2, requires_grad=True), torch.zeros(2, 2, requires_grad=True), torch.randn(3)]
    params[2].requires_grad_()
    expected, buffers = [p.detach().clone() for p in params], [None] * 3
    groups = [{"params": params[:2]}, {"params": params[2:], "weight_decay": 0.0, "adapt": False}]
    lars = PerTensorLARS(groups, lr=0.5, momentum=0.9, weight_decay=0.1)
    for _ in range(3):
        grads = [torch.randn_like(p) for p in params]
        for p, grad in zip(params, grads):
            p.grad = grad
        oracle.lars_step_slow(expected, grads, buffers, 0.5, 0.9, 0.1)
        lars.step()
    torch.testing.assert_close([p.detach() for p in params], expected)
    assert [group["weight_decay"] for group in lars.sgd.param_groups] == [0.1, 0.0]


@pytest.mark.parametrize(
    "opts",
    [
        ("MODEL.PIXPRO.METHOD", "pixcontrast"),
        ("MODEL.PIXPRO.INSTANCE.WEIGHT", 1.0),
        ("MODEL.PIXPRO.VARIANCE_WEIGHT", 2.0),
        ("MODEL.PIXPRO.MEAN_OVER", "matched"),
        ("SOLVER.OPTIMIZER", "SGD"),
        ("SOLVER.ACCUMULATION_STEPS", 2),
    ],
)
def test_other_methods_are_refused(opts):
    with pytest.raises(UsageError, match="compare a config with METHOD pixpro"):
        ReferenceStep(measured(C5, *opts))


def test_colours_of_the_device_are_refused():
    with pytest.raises(UsageError, match="set INPUT.AUG_DEVICE cpu"):
        ReferenceStep(measured(C5, "INPUT.AUG_DEVICE", "model")).step()
