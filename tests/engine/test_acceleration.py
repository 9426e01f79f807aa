"""What makes a run fast must not change its numbers."""

import copy

import method_helpers
import pytest
import torch
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage

import configs
from pixpro_d2.engine import acceleration
from pixpro_d2.engine.acceleration import accelerate, amp_dtype, set_precision
from pixpro_d2.utils.errors import UsageError

SHARED = ["MODEL.PIXPRO.INSTANCE.WEIGHT", 1.0]
SMALL = ["MODEL.RESNETS.DEPTH", 18, "MODEL.RESNETS.RES2_OUT_CHANNELS", 64]


@pytest.fixture
def defaults():
    """Put back what is set for the whole process."""
    matmul, convolutions = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    with torch._dynamo.config.patch(suppress_errors=False, recompile_limit=8, accumulated_recompile_limit=256):
        yield
    torch.set_float32_matmul_precision(matmul)
    torch.backends.cudnn.allow_tf32 = convolutions
    torch._dynamo.reset()


def losses_and_gradients(model):
    with EventStorage():
        losses = model(method_helpers.crops([True, True, True, False]))
    sum(losses.values()).backward()
    return losses, {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def test_channels_last_gives_the_same_numbers():
    torch.manual_seed(0)
    # Norms of a few values each would blow up the rounding.
    cfg = configs.tiny(*SMALL, *SHARED, *method_helpers.NO_NORM, "MODEL.FPN.NORM", "")
    plain = build_model(cfg).train()
    fast = accelerate(cfg, copy.deepcopy(plain))
    weight = fast.backbone.bottom_up.res3[0].conv1.weight
    assert weight.is_contiguous(memory_format=torch.channels_last) and not weight.is_contiguous()
    for backbone in (fast.backbone, fast.target_backbone):
        last = backbone.bottom_up.res5[0]
        assert last.conv1.weight.is_contiguous() and last.conv2.weight.is_contiguous()
    (losses, gradients), (expected, expected_gradients) = losses_and_gradients(fast), losses_and_gradients(plain)
    torch.testing.assert_close(losses, expected, atol=1e-5, rtol=0)
    difference = sum((gradients[name] - gradient).square().sum() for name, gradient in expected_gradients.items())
    assert difference.sqrt() < 1e-3 * sum(gradient.square().sum() for gradient in expected_gradients.values()).sqrt()
    for name, parameter in fast.named_parameters():
        assert not parameter.requires_grad or parameter.grad.stride() == parameter.stride(), name


def test_res5_computes_contiguously_and_by_products_from_channels_last():
    model = build_model(configs.tiny(*SMALL))
    network = accelerate(configs.tiny(*SMALL), model).backbone.bottom_up
    seen = {}
    network.res4.register_forward_hook(lambda stage, inputs, output: seen.update(res4=output))
    network.res5[0].register_forward_pre_hook(lambda block, inputs: seen.update(res5=inputs[0]))
    network(torch.rand(2, 3, 64, 64))
    assert not seen["res4"].is_contiguous() and seen["res5"].is_contiguous()
    assert seen["res4"].equal(seen["res5"])
    with torch.profiler.profile() as operations:
        assert network.res5(seen["res4"]).shape[2:] == (2, 2)
    assert "aten::conv2d" not in {event.name for event in operations.events()}  # small maps: see test_small_maps


def test_the_keys_choose_the_format():
    cfg = configs.tiny(*SMALL, "MODEL.PIXPRO.CHANNELS_LAST", False)
    assert accelerate(cfg, build_model(cfg)).backbone.bottom_up.res3[0].conv1.weight.is_contiguous()


@pytest.mark.parametrize("allowed, matmul", [(True, "high"), (False, "highest")])
def test_precision_of_float32(defaults, allowed, matmul):
    set_precision(configs.tiny("SOLVER.AMP.TF32", allowed))
    assert torch.get_float32_matmul_precision() == matmul and torch.backends.cudnn.allow_tf32 == allowed


@pytest.mark.parametrize(
    "precision, tf32, allowed", [("highest", True, False), ("high", False, True), ("", True, True)]
)
def test_the_key_of_detectron2_after_v06_decides(defaults, precision, tf32, allowed):
    cfg = configs.tiny("SOLVER.AMP.TF32", tf32)
    cfg.FLOAT32_PRECISION = precision
    set_precision(cfg)
    assert torch.get_float32_matmul_precision() == (precision or "high")
    assert torch.backends.cudnn.allow_tf32 == allowed


AMP = ("SOLVER.AMP.ENABLED", True, "MODEL.DEVICE")


def test_half_precision_of_a_gpu():
    assert amp_dtype(configs.tiny(*AMP, "cuda")) == torch.bfloat16
    assert amp_dtype(configs.tiny(*AMP, "cuda", "SOLVER.AMP.DTYPE", "float16")) == torch.float16
    assert amp_dtype(configs.tiny("MODEL.DEVICE", "cuda", "SOLVER.AMP.ENABLED", False)) is None


@pytest.mark.parametrize(
    "instructions, dtype, expected",
    [
        ({"avx512_bf16": True}, "bfloat16", torch.bfloat16),
        ({"amx_bf16": True}, "bfloat16", torch.bfloat16),
        ({"bf16": True}, "bfloat16", torch.bfloat16),
        ({"avx512_f": True, "avx512_bf16": False}, "bfloat16", None),
        ({"avx512_bf16": True}, "float16", None),
    ],
)
def test_half_precision_of_a_processor(monkeypatch, caplog, instructions, dtype, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: instructions, raising=False)
    caplog.set_level("INFO", "pixpro_d2")
    assert amp_dtype(configs.tiny(*AMP, "cpu", "SOLVER.AMP.DTYPE", dtype)) == expected
    assert (f"no fast {dtype}, the run computes in float32" in caplog.text) == (expected is None)
    assert amp_dtype(configs.tiny("SOLVER.AMP.ENABLED", False)) is None


def test_a_gpu_without_bfloat16_takes_float16(monkeypatch, caplog):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    assert amp_dtype(configs.tiny(*AMP, "cuda")) == torch.float16
    assert "This GPU has no bfloat16" in caplog.text


def test_a_step_in_bfloat16():
    """Networks compute in bfloat16; losses, terms and gradients of weights are float32 and near those of float32."""
    torch.manual_seed(0)
    terms = ["MODEL.PIXPRO.VARIANCE_WEIGHT", 2.0, "MODEL.PIXPRO.COVARIANCE_WEIGHT", 0.08]
    plain = build_model(configs.tiny(*SMALL, *SHARED, *terms)).train()
    half = copy.deepcopy(plain)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses, gradients = losses_and_gradients(half)
        assert half.backbone(torch.zeros(1, 3, 64, 64))["p3"].dtype == torch.bfloat16
    expected, expected_gradients = losses_and_gradients(plain)
    assert {loss.dtype for loss in losses.values()} == {torch.float32}
    torch.testing.assert_close(losses, expected, atol=0.05, rtol=0.05)
    assert {gradient.dtype for gradient in gradients.values()} == {torch.float32}
    assert gradients.keys() == expected_gradients.keys()


def test_compilation_and_recomputation_exclude_each_other():
    cfg = configs.tiny(*SMALL, "MODEL.PIXPRO.COMPILE", True, "MODEL.PIXPRO.RECOMPUTE", True)
    with pytest.raises(UsageError, match="do not go together"):
        accelerate(cfg, build_model(cfg))


def test_compiled_parts_give_the_same_numbers(defaults, monkeypatch):
    """By the backend that keeps PyTorch's operations, so that no compiler is needed: the graphs are what is tested."""
    compile_with = torch.compile
    compiled = []

    def record(function, dynamic):
        compiled.append(function)
        return compile_with(function, dynamic=dynamic, backend="aot_eager")

    monkeypatch.setattr(acceleration.torch, "compile", record)
    torch.manual_seed(0)
    plain = build_model(configs.tiny(*SMALL, *SHARED)).train()
    fast = accelerate(configs.tiny(*SMALL, *SHARED, "MODEL.PIXPRO.COMPILE", True), copy.deepcopy(plain))
    plain = plain.to(memory_format=torch.channels_last)
    # The probe, the ResNets below both pyramids (the instance branch looks inside) and both projectors.
    assert len(compiled) == 5
    (losses, gradients), (expected, expected_gradients) = losses_and_gradients(fast), losses_and_gradients(plain)
    torch.testing.assert_close(losses, expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(gradients, expected_gradients, atol=1e-4, rtol=1e-2)
    assert fast.state_dict().keys() == plain.state_dict().keys()
    shapes = []
    function = compile_with(lambda x: x + 1, dynamic=False, backend=lambda graph, x: shapes.append(x) or graph.forward)
    for size in range(2, 14):
        function(torch.ones(size))
    assert len(shapes) == 12  # PyTorch's limit alone is 8


def test_without_a_compiler_the_run_goes_on_and_says_why(defaults, monkeypatch, caplog):
    def fail(*args, **kwargs):
        raise RuntimeError("No C++ compiler was found\nmore lines")

    monkeypatch.setattr(acceleration.torch, "compile", fail)
    cfg = configs.tiny(*SMALL, "MODEL.PIXPRO.COMPILE", True)
    model = accelerate(cfg, build_model(cfg)).train()
    assert "runs uncompiled: No C++ compiler was found" in caplog.text and "more lines" not in caplog.text
    assert len(losses_and_gradients(model)[0]) == 4
