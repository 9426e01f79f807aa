"""SlotCon as a method: the numeric cases through the module, its networks, its state and its config."""

import math

import pytest
import slot_oracle
import torch
import torch.nn.functional as F  # noqa: N812
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage
from PIL import Image
from slot_helpers import C0, OVERLAPS, Alike, P, Q, features, head, method, view, views, whole
from torch import nn

import configs
from pixpro_d2.checkpoint.export import backbone_of
from pixpro_d2.checkpoint.formats import recognise
from pixpro_d2.engine.trainer import Trainer
from pixpro_d2.modeling.pretrain.momentum import momentum_at, update_target
from pixpro_d2.modeling.pretrain.slot_heads import MaskedBatchNorm, SlotPredictor, SlotProjector
from pixpro_d2.modeling.pretrain.slots import present_slots
from pixpro_d2.modeling.pretrain.view_overlap import ViewOverlap
from pixpro_d2.solver.build import lars_groups
from pixpro_d2.utils.errors import UsageError


def directions(made, pair):
    """Contrast of student X with teacher Y, and of student Y with teacher X."""
    first, second = (made.group(one) for one in pair)
    return made.contrast(first, second).item(), made.contrast(second, first).item()


# S10, S11 through the module


@pytest.mark.parametrize("n, expected", [(2, (1.082188, 0.976906)), (3, (1.173649, 1.334818))])
def test_contrast_by_numbers(n, expected):
    assert directions(method(), views(n)) == pytest.approx(expected, abs=1e-5)


def test_contrast_after_the_head_by_numbers():
    """The predictor's norms see the slots that count only: 1.894648 and 1.023585 if they saw all."""
    assert directions(method(head()), views()) == pytest.approx((1.538134, 1.022148), abs=1e-5)


def test_the_center_changes_nothing_in_the_contrast():
    """1.371224 if it were subtracted from what decides about presence, .883920 if from the attention."""
    assert directions(method(center=10 * C0), views())[1] == pytest.approx(0.976906, abs=1e-5)


def test_the_mean_is_over_the_slots_of_all_images():
    """Four images: 1.395318 and 1.231767; the mean of two halves of unequal counts is 1.260905 (S11)."""
    assert directions(method(), views(4))[::-1] == pytest.approx((1.395318, 1.231767), abs=1e-5)


@pytest.mark.parametrize("predictor", [Alike, head])
def test_no_slot_in_both_views_gives_no_contrast_but_a_graph(predictor):
    """All of the student's pixels go to prototype 0 and all of the teacher's to prototype 1."""
    made = method(predictor())
    with torch.no_grad():
        made.prototypes.weight.copy_(torch.eye(5, 4))
        made.target_prototypes.weight.copy_(torch.eye(5, 4))
    online = torch.eye(4)[0].view(1, 4, 1, 1).expand(2, 4, 3, 3).clone().requires_grad_()
    target = torch.eye(4)[1].view(1, 4, 1, 1).expand(2, 4, 3, 3)
    pair = [view(online, target, whole(2)) for _ in range(2)]
    loss = made.contrast(*(made.group(one) for one in pair))
    assert loss.item() == 0
    loss.backward()
    assert not online.grad.any() and made.prototypes.weight.grad is not None


def test_a_single_slot_passes_the_head():
    """Batch norm refuses a single row in training, and the run would end."""
    made = method(head())
    with torch.no_grad():
        made.prototypes.weight.copy_(torch.eye(5, 4))
        made.target_prototypes.weight.copy_(torch.eye(5, 4))
    same = torch.eye(4)[2].view(1, 4, 1, 1).expand(1, 4, 3, 3).clone().requires_grad_()
    pair = [view(same, same.detach(), whole(1)) for _ in range(2)]
    loss = made.contrast(*(made.group(one) for one in pair))
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-6) and same.grad.isfinite().all()


# S12: the whole forward


class Branches(nn.Module):
    """A projector 4-4 without bias in each branch, and the method."""

    def __init__(self, predictor):
        super().__init__()
        self.method = method(predictor, C0)
        self.online, self.target = (nn.Conv2d(4, 4, 1, bias=False) for _ in range(2))
        a = torch.arange(16.0).view(4, 4, 1, 1)
        with torch.no_grad():
            self.online.weight.copy_((0.5 * a + 0.3).sin())
            self.target.weight.copy_((0.4 * a).cos())

    def move(self, k):
        momentum = momentum_at(k, 320, 0.99)
        for online, target in [(self.online, self.target), *self.method.momentum_pairs()]:
            update_target(list(online.parameters()), list(target.parameters()), momentum)

    def views(self):
        pair = zip(features(), OVERLAPS)
        return [view(self.online(x.float()), self.target(x.float()).detach(), overlap) for x, overlap in pair]


@pytest.mark.parametrize(
    "predictor, contrasts, loss, weights, prototypes",
    [
        (
            Alike,
            (1.728774, 0.895293),
            4.973562,
            (1.253031, -1.218557, -0.471779),
            (-0.339678, 0.121148, -0.463704),
        ),
        (head, (0.835661, 0.560536), 4.359626, (1.485911, -1.266812, -0.084865), (-0.341568, 0.107857, -0.453163)),
    ],
)
def test_whole_forward_by_numbers(predictor, contrasts, loss, weights, prototypes):
    """Every trap has another number: the target moved after its forward 4.983437, the student's temperature in its own
    attention 4.982593, the new centre in the loss 4.965040, aligned False 5.597426, no resampling 8.416185, no 2 tau
    6.941612; presence on the overlap gives the contrasts 2.186327 and .712615.
    """
    branches = Branches(predictor())
    branches.move(0)
    made = branches.method
    pair = branches.views()
    first, second = (made.group(one) for one in pair)
    groups = made.grouping("c5", first, second).item(), made.grouping("c5", second, first).item()
    assert groups == pytest.approx((3.582359, 3.740696), abs=1e-5)
    assert (made.contrast(first, second).item(), made.contrast(second, first).item()) == pytest.approx(
        contrasts, abs=1e-5
    )
    total = made("c5", tuple(pair), ())
    assert total.item() == pytest.approx(loss, abs=1e-5) and total.shape == () and total.dtype == torch.float32
    total.backward()
    place = [(0, 0), (0, 1), (2, 3)]
    assert [branches.online.weight.grad[:, :, 0, 0][i].item() for i in place] == pytest.approx(weights, abs=2e-5)
    assert [made.prototypes.weight.grad[i].item() for i in place] == pytest.approx(prototypes, abs=2e-5)
    assert branches.target.weight.grad is None and made.target_prototypes.weight.grad is None


def test_state_after_the_forward_by_numbers():
    """From maps of the overlap the centre would be .015084 .014123 -.012543 -.013119 -.014936."""
    branches = Branches(Alike())
    branches.move(0)
    branches.method("c5", tuple(branches.views()), ())
    expected = torch.tensor([0.015802, 0.009246, -0.004404, -0.023099, -0.005341])
    torch.testing.assert_close(branches.method.centers["c5"].mean, expected, atol=1e-6, rtol=0)
    assert branches.target.weight[0, :2].flatten().tolist() == pytest.approx([0.992955, 0.919024], abs=1e-6)
    moved = branches.method.target_prototypes.weight[0, :2].tolist()
    assert moved == pytest.approx([0.975060, 0.458799], abs=1e-6)


def test_forward_in_the_middle_of_a_run_by_numbers():
    branches = Branches(Alike())
    branches.move(160)
    assert momentum_at(160, 320, 0.99) == pytest.approx(0.995)
    assert branches.method("c5", tuple(branches.views()), ()).item() == pytest.approx(4.978451, abs=1e-5)


def test_masks_of_the_forward():
    branches = Branches(Alike())
    branches.move(0)
    grouped = [branches.method.group(one) for one in branches.views()]
    masks = [
        ["".join(str(int(value)) for value in image) for image in present_slots(scores, 1)]
        for scores in (grouped[0].online, grouped[1].online, grouped[0].target, grouped[1].target)
    ]
    assert masks == [["11011", "11111"], ["01001", "01001"], ["11111", "11111"], ["00111", "00111"]]


def test_the_method_against_loops():
    made = method(head(), C0)
    x, y = (one.float().double() for one in features())
    losses, reference = [], head()

    def predict(rows):
        """The same layers with PyTorch's batch norm, in float64."""
        hidden = rows
        for layer, norm in ((reference.first, True), (reference.second, True), (reference.last, False)):
            hidden = F.linear(hidden, layer.weight.double(), layer.bias.double())
            hidden = F.gelu(F.batch_norm(hidden, None, None, training=True)) if norm else hidden
        return hidden

    online = [slot_oracle.scores_slow(one, P) for one in (x, y)]
    target = [slot_oracle.scores_slow(one, Q) for one in (x, y)]
    maps = [
        [slot_oracle.resampled_slow(s, o.boxes, o.flipped) for s, o in zip(scores, OVERLAPS)]
        for scores in (online, target)
    ]
    for i in (0, 1):
        losses.append(slot_oracle.grouping_slow(maps[0][i], maps[1][1 - i], C0))
        losses.append(slot_oracle.contrast_slow(online[i], target[1 - i], (x, y)[i], (x, y)[1 - i], predict)[0])
    assert made("c5", views(2, OVERLAPS), ()).item() == pytest.approx(0.5 * sum(losses).item(), abs=1e-5)


def test_images_without_an_overlap_are_left_out():
    """The third image's crops only touch. The other two have the mean of a batch without the third."""
    apart = ViewOverlap(torch.tensor([[1.0, 0, 1, 1]]), torch.tensor([False]))
    overlaps = [ViewOverlap(torch.cat([o.boxes, apart.boxes]), torch.cat([o.flipped, apart.flipped])) for o in OVERLAPS]
    three, two = method(center=C0), method(center=C0)
    with_apart = [three.group(one) for one in views(3, overlaps)]
    without = [two.group(one) for one in views(2, OVERLAPS)]
    assert three.grouping("c5", *with_apart).item() == pytest.approx(two.grouping("c5", *without).item(), abs=1e-6)


def test_nothing_in_common_anywhere_gives_no_grouping_but_a_graph():
    apart = ViewOverlap(torch.tensor([[1.0, 0, 1, 1]] * 2), torch.zeros(2, dtype=torch.bool))
    made = method()
    loss = made.grouping("c5", *(made.group(one) for one in views(2, (apart, apart))))
    assert loss.item() == 0
    loss.backward()
    assert not made.prototypes.weight.grad.any()


def test_the_center_rests_in_eval_mode():
    made = method(center=C0).eval()
    made("c5", views(), ())
    torch.testing.assert_close(made.centers["c5"].mean, C0.float())


def test_fewer_places_than_prototypes_against_loops():
    """A slot needs 3 of the 9 pixels, so a view has room for 3 of the 5."""
    made = method(min_share=0.3)
    x, y = features()
    pair = views()
    grouped = [made.group(one) for one in pair]
    online, target = slot_oracle.scores_slow(x, P), slot_oracle.scores_slow(y, Q)
    expected, labels = slot_oracle.contrast_slow(online, target, x, y, lambda rows: rows, least=3)
    assert labels and made.contrast(*grouped).item() == pytest.approx(expected.item(), abs=1e-5)


# Networks


def test_masked_norm_is_a_batch_norm_of_the_rows_that_count():
    torch.manual_seed(0)
    rows, counted = torch.randn(12, 3), torch.rand(12) > 0.4
    masked, plain = MaskedBatchNorm(3, synced=False), nn.BatchNorm1d(3)
    for _ in range(2):
        ours, theirs = masked(rows, counted)[counted], plain(rows[counted])
        torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(masked.state_dict(), plain.state_dict())
    torch.testing.assert_close(masked.eval()(rows, counted), plain.eval()(rows))


def test_masked_norm_without_a_row_keeps_its_statistics():
    norm = MaskedBatchNorm(3, synced=False)
    result = norm(torch.randn(4, 3), torch.zeros(4, dtype=torch.bool))
    assert result.isfinite().all() and not norm.running_mean.any() and (norm.running_var == 1).all()


def test_networks_of_the_paper():
    """R50: 26 239 232 weights in the projector, 18 899 200 in the predictor; std 0.02, no bias, GELU by erf."""
    with torch.device("meta"):
        counts = [sum(p.numel() for p in net.parameters()) for net in (SlotProjector(2048), SlotPredictor(256, 4096))]
    assert counts == [26_239_232, 18_899_200]
    torch.manual_seed(0)
    for net in (SlotProjector(64, 64, 32), SlotPredictor(64, 64)):
        for layer in (m for m in net.modules() if isinstance(m, nn.Conv2d | nn.Linear)):
            assert layer.weight.std().item() == pytest.approx(0.02, rel=0.1) and not layer.bias.any()
    assert nn.GELU().approximate == "none"


# Config, state, mistakes

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


def train(model, seeds):
    """SGD and momentum steps; the losses of each."""
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    history = []
    for seed in seeds:
        with EventStorage():
            losses = model(batch(seed))
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
        model.move_target(0.9)
        history.append({name: loss.item() for name, loss in losses.items()})
    return history


def test_config_trains_every_part():
    model = build()
    (losses,) = train(model, [0])
    # Untrained, the grouping loss is at most about log 7 in each direction, half of it counts; the contrast adds to it.
    assert list(losses) == ["loss_pix_res5"] and 0 < losses["loss_pix_res5"] < 2 * math.log(7) + 0.4 * math.log(12)
    made = model.method
    parts = (model.backbone.stem.conv1, model.projector["res5"][0], made.predictor.first, made.prototypes)
    assert all(part.weight.grad.abs().sum() > 0 for part in parts)
    assert made.centers["res5"].mean.any()
    assert (made.target_prototypes.weight - made.prototypes.weight).abs().max() > 0


def test_a_resumed_run_continues_with_its_center_and_prototypes():
    whole_run = build()
    history = train(whole_run, range(4))
    stopped = build()
    train(stopped, range(2))
    state = {name: value.clone() for name, value in stopped.state_dict().items()}
    resumed = build(seed=5)
    resumed.load_state_dict(state)
    assert train(resumed, range(2, 4)) == history[2:]
    torch.testing.assert_close(resumed.state_dict(), whole_run.state_dict(), atol=0, rtol=0)
    for part in ("centers", "prototypes"):
        forgetful = build(seed=5)
        forgetful.load_state_dict({name: x for name, x in state.items() if part not in name}, strict=False)
        assert train(forgetful, range(2, 4)) != history[2:], part


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


def test_segments_are_the_winners_of_the_target_branch():
    x, _ = features()
    expected = slot_oracle.scores_slow(x, Q).argmax(dim=1)
    assert torch.equal(method().segments(views()[0]), expected)


def test_half_precision_computes_scores_in_float32():
    """The forward of S12 in bfloat16 would give 4.969151 instead of 4.973562."""
    model = build()
    reference = build()
    with EventStorage(), torch.autocast("cpu", torch.bfloat16):
        losses, comparisons = model.compare(*model.prepare(batch(0)))
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
    "config, prototypes, iterations",
    [("slotcon_c5_100ep", 2048, 250_200), ("slotcon_coco_800ep", 256, 184_800), ("slotcon_fpn", 256, 250_200)],
)
def test_recipe(config, prototypes, iterations):
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
