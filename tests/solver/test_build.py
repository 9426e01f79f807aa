"""Optimisers and schedules by config, on the real model."""

import copy

import pytest
import torch
from detectron2.modeling import build_model

import configs
from pixpro_d2.engine.configuration.config_checks import CHOICES
from pixpro_d2.engine.loop import StepGuard
from pixpro_d2.solver.build import build_lr_scheduler, build_optimizer
from pixpro_d2.solver.lars import LARS
from pixpro_d2.solver.schedule import scaled_lr
from pixpro_d2.utils.errors import UsageError


@pytest.fixture(scope="module")
def model():
    return build_model(configs.tiny())


def test_lars_spares_one_dimensional_tensors_and_the_target(model):
    optimizer = build_optimizer(configs.tiny("SOLVER.WEIGHT_DECAY", 1e-5), model)
    assert type(optimizer) is LARS
    adapted, plain = optimizer.param_groups
    assert adapted["adapt"] and adapted["weight_decay"] == 1e-5 and all(p.ndim > 1 for p in adapted["params"])
    assert not plain["adapt"] and plain["weight_decay"] == 0 and all(p.ndim == 1 for p in plain["params"])
    trainable = [p for name, p in model.named_parameters() if not name.startswith("target_")]
    assert {id(p) for group in optimizer.param_groups for p in group["params"]} == {id(p) for p in trainable}


def test_lars_rate_of_one_dimensional_tensors_follows_the_bias_factor(model):
    opts = ("SOLVER.BASE_LR", 2.0, "SOLVER.WARMUP_ITERS", 0, "SOLVER.MAX_ITER", 4)
    for factor, rates in ((1.0, [2.0, 2.0]), (0.05, [2.0, 0.1])):
        cfg = configs.tiny(*opts, "SOLVER.BIAS_LR_FACTOR", factor)
        optimizer = build_optimizer(cfg, model)
        scheduler = build_lr_scheduler(cfg, optimizer)
        assert [group["lr"] for group in optimizer.param_groups] == pytest.approx(rates)
        optimizer.step()
        scheduler.step()
        scheduler.step()  # half of the cosine: both rates fall alike
        assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([x / 2 for x in rates], rel=1e-5)


@pytest.mark.parametrize("name, kind", [("SGD", torch.optim.SGD), ("AdamW", torch.optim.AdamW)])
def test_other_optimizers(model, name, kind):
    opts = ("SOLVER.BASE_LR", 0.5, "SOLVER.WEIGHT_DECAY", 0.1, "SOLVER.BIAS_LR_FACTOR", 1.0)
    cfg = configs.tiny("SOLVER.OPTIMIZER", name, *opts)
    optimizer = build_optimizer(cfg, model)
    assert isinstance(optimizer, kind)
    decay = {id(p): group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert decay[id(model.backbone.bottom_up.stem.conv1.weight)] == 0.1
    assert decay[id(model.backbone.bottom_up.stem.conv1.norm.weight)] == 0.0
    assert all(group["lr"] == 0.5 for group in optimizer.param_groups)


@pytest.mark.parametrize("name", ["SGD", "AdamW"])
def test_optimizers_of_channels_last_weights_on_a_cpu_are_not_fused(name):
    layers = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Linear(4, 2))
    for memory_format, fused in ((torch.channels_last, False), (torch.contiguous_format, True)):
        optimizer = build_optimizer(configs.tiny("SOLVER.OPTIMIZER", name), layers.to(memory_format=memory_format))
        assert [group["fused"] for group in optimizer.param_groups] == [fused] * len(optimizer.param_groups)


def _layers(memory_format):
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.Conv2d(4, 5, 1)).to(memory_format=memory_format)


def _train(layers, optimizer, seeds):
    """Take a guarded step, as in training, for each seed."""
    guard = StepGuard(layers, optimizer, torch.amp.GradScaler(enabled=False))
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        for p in layers.parameters():
            p.grad = torch.empty_like(p).copy_(torch.randn(p.shape, generator=generator))
        guard.step(torch.tensor(True))


@pytest.mark.parametrize("after", [torch.channels_last, torch.contiguous_format], ids=["to last", "to contiguous"])
@pytest.mark.parametrize("before", [torch.channels_last, torch.contiguous_format], ids=["last", "contiguous"])
@pytest.mark.parametrize("name", ["SGD", "AdamW", "LARS"])
def test_a_state_continues_in_another_memory_format_and_without_fusion(name, before, after):
    cfg = configs.tiny("SOLVER.OPTIMIZER", name, "SOLVER.BASE_LR", 0.1)
    expected = _layers(torch.contiguous_format)
    _train(expected, build_optimizer(cfg, expected), range(4))

    first = _layers(before)
    optimizer = build_optimizer(cfg, first)
    _train(first, optimizer, range(2))
    second = _layers(after)
    second.load_state_dict(first.state_dict())
    resumed = build_optimizer(cfg, second)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    _train(second, resumed, range(2, 4))
    for p, q in zip(second.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(p, q, check_stride=False)


def test_unknown_optimizer(model):
    with pytest.raises(UsageError, match="SOLVER.OPTIMIZER is 'Adam'; it must be SGD, LARS or AdamW"):
        build_optimizer(configs.tiny("SOLVER.OPTIMIZER", "Adam"), model)


def test_gradient_clipping_applies_to_lars():
    clip = ("SOLVER.CLIP_GRADIENTS.ENABLED", True, "SOLVER.CLIP_GRADIENTS.CLIP_VALUE", 0.01)
    weights = []
    for opts, gradient in ((clip, [5.0, 0.001]), ((), [0.01, 0.001]), ((), [5.0, 0.001])):
        layer = torch.nn.Linear(2, 1, bias=False)
        torch.nn.init.ones_(layer.weight)
        layer.weight.grad = torch.tensor([gradient])
        build_optimizer(configs.tiny(*opts), layer).step()
        weights.append(layer.weight.detach())
    clipped, small, large = weights
    assert torch.equal(clipped, small) and not torch.equal(clipped, large)


def test_schedule_follows_the_official_curve_through_the_real_scheduler():
    opts = ("SOLVER.BASE_LR", 4.0, "SOLVER.MAX_ITER", 100, "SOLVER.WARMUP_ITERS", 20)
    cfg = configs.tiny(*opts)
    layer = torch.nn.Linear(2, 2)
    optimizer = build_optimizer(cfg, layer)
    scheduler = build_lr_scheduler(cfg, optimizer)
    rates = []
    for _ in range(100):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    expected = {0: 0.04, 1: 0.238, 10: 2.02, 20: 4.0, 21: 3.99845807, 60: 2.0000005, 99: 0.00154293}
    for iteration, rate in expected.items():
        assert rates[iteration] == pytest.approx(rate, abs=1e-6)


@pytest.mark.parametrize(
    ("rescale", "method", "expected"),
    [  # END 0.5 of BASE_LR 2; warm-up of 2 of 4 iterations from 0.1; cosine 0.5 + 0.25 (1 + cos(pi x))
        (False, "linear", [0.2, 0.85, 1.5, 1.1464466]),  # from 0.1 towards the cosine's 0.75; x = 0.5, 0.75
        (True, "linear", [0.2, 1.1, 2.0, 1.5]),  # x = 0, 0.5
        (False, "constant", [0.2, 0.2, 1.5, 1.1464466]),
        (True, "constant", [0.2, 0.2, 2.0, 1.5]),
    ],
)
def test_cosine_ends_where_the_config_says(rescale, method, expected):
    opts = ("SOLVER.BASE_LR", 2.0, "SOLVER.BASE_LR_END", 1.0, "SOLVER.MAX_ITER", 4, "SOLVER.WARMUP_ITERS", 2)
    opts += ("SOLVER.WARMUP_FACTOR", 0.1, "SOLVER.WARMUP_METHOD", method, "SOLVER.RESCALE_INTERVAL", rescale)
    cfg = configs.tiny(
        *opts, "SOLVER.LR_SCHEDULER_NAME", "WarmupCosineLR", config="voc/faster_rcnn_R_18_FPN_small.yaml"
    )
    optimizer = build_optimizer(cfg, torch.nn.Linear(2, 2))
    scheduler, rates = build_lr_scheduler(cfg, optimizer), []
    for _ in range(4):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert rates == pytest.approx(expected)


@pytest.mark.parametrize("name", CHOICES["SOLVER.LR_SCHEDULER_NAME"])
def test_every_schedule_that_the_check_accepts_is_built(name):
    cfg = configs.tiny("SOLVER.LR_SCHEDULER_NAME", name)
    assert build_lr_scheduler(cfg, build_optimizer(cfg, torch.nn.Linear(2, 2))).get_last_lr()


def test_detectron2s_schedules_stay_detectron2s():
    cfg = configs.tiny("SOLVER.STEPS", (2,), "SOLVER.BASE_LR", 1.0, config="voc/faster_rcnn_R_18_FPN_small.yaml")
    cfg.SOLVER.MAX_ITER, cfg.SOLVER.WARMUP_ITERS = 4, 0
    optimizer = build_optimizer(cfg, torch.nn.Linear(2, 2))
    scheduler = build_lr_scheduler(cfg, optimizer)
    rates = []
    for _ in range(4):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert rates == pytest.approx([1.0, 1.0, 0.1, 0.1])


def test_learning_rate_scaling():
    assert scaled_lr(4.0, 512, 1024, "none") == 4.0
    assert scaled_lr(4.0, 512, 1024, "linear") == 2.0
    assert scaled_lr(4.0, 512, 1024, "sqrt") == pytest.approx(2.828427)  # the authors' advice for batch 512
