"""SlotCon from a config: what trains, what a checkpoint holds, the recipes, and mistakes."""

import math
from types import SimpleNamespace

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage
from method_helpers import train_model
from PIL import Image
from slot_helpers import view

import configs
from pixpro_d2.checkpoint.export import backbone_of
from pixpro_d2.checkpoint.formats import recognise
from pixpro_d2.engine.configuration.configure import resolve_schedule
from pixpro_d2.engine.hooks import EMAHook
from pixpro_d2.engine.trainer import Trainer
from pixpro_d2.solver.build import lars_groups
from pixpro_d2.utils.errors import UsageError

SMALL = ("MODEL.RESNETS.DEPTH", 18, "MODEL.RESNETS.RES2_OUT_CHANNELS", 64, "MODEL.PIXPRO.SLOTCON.NUM_PROTOTYPES", 7)
C5, PYRAMID = "pretrain/slotcon_c5_100ep.yaml", "pretrain/slotcon_fpn.yaml"


def build(*opts, config=C5, seed=0):
    torch.manual_seed(seed)
    return build_model(configs.tiny(*SMALL, *opts, config=config)).train()


def batch(seed, n=3):
    generator = torch.Generator().manual_seed(seed)
    return {
        "views": torch.randint(0, 256, (n, 2, 3, 64, 64), generator=generator, dtype=torch.uint8),
        "boxes": torch.tensor([[[0.0, 0, 60, 60], [70, 10, 10, 70]]] * n),
        "image_sizes": torch.tensor([[80.0, 80]] * n),
    }


def test_config_trains_every_part():
    model = build()
    (losses,) = train_model(model, map(batch, [0]))
    # Untrained, the grouping loss is at most about log 7 in each direction, half of it counts; the contrast adds to it.
    assert list(losses) == ["loss_pix_res5"] and 0 < losses["loss_pix_res5"] < 2 * math.log(7) + 0.4 * math.log(12)
    made = model.method
    parts = (model.backbone.stem.conv1, model.projector["res5"][0], made.predictor.first, made.prototypes)
    assert all(part.weight.grad.abs().sum() > 0 for part in parts)
    assert made.centers["res5"].mean.any()


def test_target_prototypes_follow_by_the_recipes_momentum(tmp_path):
    """64 images in batches of 2 for 10 epochs are 320 updates; the momentum of update 160 is .995 (S15)."""
    for i in range(64):
        Image.new("RGB", (8, 8)).save(tmp_path / f"{i}.png")
    cfg = configs.tiny("DATASETS.TRAIN", (f"images:{tmp_path}",), "SOLVER.IMS_PER_BATCH", 2, config=C5)
    cfg.SOLVER.MAX_EPOCHS = 10
    resolve_schedule(cfg)
    model = build()
    made, hook = model.method, EMAHook(model)
    before = made.target_prototypes.weight.clone()
    made.prototypes.weight.data += 1
    hook.trainer = SimpleNamespace(iter=159, max_iter=cfg.SOLVER.MAX_ITER, storage=EventStorage())
    hook.after_step()
    torch.testing.assert_close(made.target_prototypes.weight, before + 0.005, atol=1e-5, rtol=0)
    assert cfg.SOLVER.MAX_ITER == 320 and hook.trainer.storage.latest()["ema_momentum"][0] == pytest.approx(0.995)


KEYS = {
    "MODEL.PIXPRO.SLOTCON.TARGET_TEMPERATURE": ("target_temperature", 0.05),
    "MODEL.PIXPRO.SLOTCON.ONLINE_TEMPERATURE": ("online_temperature", 0.15),
    "MODEL.PIXPRO.TEMPERATURE": ("contrast_temperature", 0.3),
    "MODEL.PIXPRO.SLOTCON.CENTER_MOMENTUM": ("center_momentum", 0.8),
    "MODEL.PIXPRO.SLOTCON.GROUP_WEIGHT": ("group_weight", 0.6),
    "MODEL.PIXPRO.SLOTCON.MIN_SHARE": ("min_share", 0.1),
}


def test_keys_reach_the_method():
    made = build(*(x for key, (_, value) in KEYS.items() for x in (key, value)), "MODEL.PIXPRO.NORM", "BN").method
    assert [getattr(made, name) for name, _ in KEYS.values()] == [value for _, value in KEYS.values()]
    assert made.prototypes.weight.shape == made.target_prototypes.weight.shape == (7, 16)
    assert made.predictor.first.weight.shape == (32, 16) and not made.predictor.first_norm.synced


def test_a_resumed_run_continues_with_its_center_and_prototypes():
    whole_run = build()
    history = train_model(whole_run, map(batch, range(4)))
    stopped = build()
    train_model(stopped, map(batch, range(2)))
    state = {name: value.clone() for name, value in stopped.state_dict().items()}
    resumed = build(seed=5)
    resumed.load_state_dict(state)
    assert train_model(resumed, map(batch, range(2, 4))) == history[2:]
    torch.testing.assert_close(resumed.state_dict(), whole_run.state_dict(), atol=0, rtol=0)
    for part in ("centers", "prototypes"):
        forgetful = build(seed=5)
        forgetful.load_state_dict({name: x for name, x in state.items() if part not in name}, strict=False)
        assert train_model(forgetful, map(batch, range(2, 4))) != history[2:], part


def test_levels_share_prototypes_and_have_a_center_each():
    model = build(config=PYRAMID)
    with EventStorage():
        losses = model(batch(0))
    levels = ["p3", "p4", "p5"]
    assert list(losses) == [f"loss_pix_{level}" for level in levels] and list(model.method.centers) == levels
    centers = [model.method.centers[level].mean for level in levels]
    assert all(center.any() for center in centers) and not torch.allclose(centers[0], centers[1])
    assert not model.has_unused_parameters  # p6 is p5 subsampled
    sum(losses.values()).backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


def test_monitors_are_recorded_by_level():
    model = build("SOLVER.METRICS_PERIOD", 1, config=PYRAMID)
    with EventStorage() as storage:
        model(batch(0))
    names = {"prototypes_in_use", "largest_prototype", "assignment_entropy", "prototype_entropy", "center_norm"}
    for level in ("p3", "p4", "p5"):
        found = {name: storage.latest()[f"{name}/{level}"][0] for name in (*names, "shared_slots")}
        assert 1 <= found["prototypes_in_use"] <= 7 and 0 < found["largest_prototype"] <= 1
        assert 0 < found["assignment_entropy"] <= found["prototype_entropy"] + 1e-5 <= math.log(7) + 1e-4


def test_half_precision_computes_scores_in_float32():
    """The forward of S12 in bfloat16 would give 4.969151 instead of 4.973562."""
    model = build()
    reference = build()
    with EventStorage(), torch.autocast("cpu", torch.bfloat16):
        losses, comparisons = model.compare(*model.views_and_geometry(batch(0)))
        projections = [[x.projection, x.target_projection] for x in comparisons["res5"].views]
    pair = [
        view(online, target, seen.overlap) for (online, target), seen in zip(projections, comparisons["res5"].views)
    ]
    expected = reference.method("res5", pair, ())
    assert losses["loss_pix_res5"].item() == pytest.approx(expected.item(), abs=1e-6)


# S16 and the recipe


def test_state_and_parameters_of_a_resnet50():
    """687 entries as in the authors' checkpoints; 180 trained tensors, of which 120 have neither decay nor scaling."""
    cfg = configs.load_config(str(configs.CONFIGS / C5), ["MODEL.DEVICE", "meta"])
    cfg.MODEL.RESNETS.NORM = cfg.MODEL.PIXPRO.NORM = "BN"
    with torch.device("meta"):
        model = build_model(cfg)
    names = list(model.state_dict())
    counts = {
        start: sum(name.startswith(start) for name in names)
        for start in ("backbone.", "target_backbone.", "projector.", "target_projector.", "method.predictor.")
    }
    assert list(counts.values()) == [318, 318, 16, 16, 16] and len(names) == 687
    source = recognise({"model": model.state_dict()}, "model.pth")
    exported = backbone_of(source, "target", "model.pth").trunk  # the authors transfer the target branch
    assert len(exported) == 318 and sum("num_batches_tracked" in name for name in exported) == 53
    assert sum(p.numel() for p in model.backbone.parameters()) == 23_508_032
    assert model.method.prototypes.weight.numel() == 524_288
    scaled, plain = (group["params"] for group in lars_groups(model, 2.0))
    assert (len(scaled), len(plain)) == (60, 120)
    assert any(p is model.method.prototypes.weight for p in scaled)


@pytest.mark.parametrize(
    "config, prototypes, iterations, kept, hidden, levels",
    [
        ("slotcon_c5_100ep", 2048, 250_200, 5, 4096, ["res5"]),
        ("slotcon_coco_800ep", 256, 184_800, 50, 4096, ["res5"]),
        ("slotcon_fpn", 256, 250_200, 5, 1024, ["p3", "p4", "p5"]),
    ],
)
def test_recipe(config, prototypes, iterations, kept, hidden, levels):
    """A checkpoint is kept every ``kept`` epochs."""
    cfg = configs.load_config(str(configs.CONFIGS / f"pretrain/{config}.yaml"), [])
    solver, pixpro, slotcon, views = cfg.SOLVER, cfg.MODEL.PIXPRO, cfg.MODEL.PIXPRO.SLOTCON, cfg.INPUT.PIXPRO
    assert ("slotcon", prototypes, 0.2) == (pixpro.METHOD, slotcon.NUM_PROTOTYPES, pixpro.TEMPERATURE)
    assert (slotcon.TARGET_TEMPERATURE, slotcon.ONLINE_TEMPERATURE) == (0.07, 0.1)
    assert (slotcon.CENTER_MOMENTUM, slotcon.GROUP_WEIGHT, pixpro.MOMENTUM) == (0.9, 0.5, 0.99)
    assert solver.BASE_LR * solver.IMS_PER_BATCH / solver.LR_REFERENCE_BATCH == 2.0 and solver.IMS_PER_BATCH == 512
    assert (solver.OPTIMIZER, solver.WEIGHT_DECAY, solver.MOMENTUM) == ("LARS", 1e-5, 0.9)
    assert (solver.WARMUP_EPOCHS, solver.WARMUP_FACTOR, solver.BASE_LR_END) == (5, 0.01, 1e-6)
    assert (views.CROP_SIZE, views.MIN_SCALE, views.AUG, views.INTERPOLATION) == (224, 0.08, "byol", "bicubic")
    assert (views.REDRAW, views.MIN_OVERLAP) == ("second", 0.01)
    images = 118_287 if "coco" in config else 1_281_167
    assert solver.MAX_EPOCHS * (images // 512) == iterations
    assert solver.CHECKPOINT_PERIOD == solver.CHECKPOINT_KEEP_EVERY == kept * (images // 512) and solver.AMP.ENABLED
    assert (hidden, 256, levels) == (pixpro.PROJECTOR.HIDDEN_DIM, pixpro.PROJECTOR.OUT_DIM, pixpro.IN_FEATURES)
    assert slotcon.MIN_SHARE == 0.02  # one pixel of 7 x 7


@pytest.mark.parametrize(
    "opts, message",
    [
        (("MODEL.PIXPRO.METHOD", "slotkon"), "METHOD is 'slotkon'.*slotcon"),
        (("MODEL.PIXPRO.TEMPERATURE", 0.0), "PIXPRO.TEMPERATURE is 0.0; it must be above 0"),
        (("MODEL.PIXPRO.SLOTCON.TARGET_TEMPERATURE", 0.0), "TARGET_TEMPERATURE is 0.0; it must be above 0"),
        (("MODEL.PIXPRO.SLOTCON.ONLINE_TEMPERATURE", 0.0), "ONLINE_TEMPERATURE is 0.0; it must be above 0"),
        (("MODEL.PIXPRO.SLOTCON.NUM_PROTOTYPES", 1), "NUM_PROTOTYPES is 1; it must be at least 2"),
        (("INPUT.PIXPRO.MIN_OVERLAP", 0.0), "MIN_OVERLAP is 0.0, but METHOD slotcon"),
        (("INPUT.PIXPRO.REDRAW", "third"), "REDRAW is 'third'.*both or second"),
        (("INPUT.PIXPRO.INTERPOLATION", "nearest"), "INTERPOLATION is 'nearest'.*bilinear or bicubic"),
        (("MODEL.PIXPRO.PPM.ENABLED", True), "PPM.ENABLED is True"),
        (("INPUT.PIXPRO.N_FRAMES", 2), "N_FRAMES is 2"),
        (("MODEL.PIXPRO.OFFICIAL_ROUNDING", True), "OFFICIAL_ROUNDING is True"),
        (("MODEL.PIXPRO.NORM", "GN"), "NORM is 'GN'.*BN, SyncBN"),
    ],
)
def test_mistakes_are_named(opts, message):
    with pytest.raises(UsageError, match=message) as caught:
        build(*opts)
    assert str(caught.value).count(". ") == 0


def test_more_prototypes_than_pixels_of_a_batch(tmp_path):
    for i in range(8):
        Image.new("RGB", (80, 80), (30 * i, 0, 90)).save(tmp_path / f"{i}.jpg")
    opts = ("DATASETS.TRAIN", (f"images:{tmp_path}",), "OUTPUT_DIR", str(tmp_path / "out"))
    cfg = configs.tiny(*SMALL, *opts, "MODEL.PIXPRO.SLOTCON.NUM_PROTOTYPES", 17, config=C5)
    with pytest.raises(UsageError, match="NUM_PROTOTYPES is 17, but a batch has only 16 pixels at res5"):
        Trainer(cfg)
