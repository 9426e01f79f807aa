"""Distillation in the two-branch model: its numbers, what it leaves alone, and what it does without other losses."""

import copy

import pytest
import torch
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage
from distillation_helpers import Averages, save_script, slow_loss, teacher
from distributed_helpers import in_processes
from method_helpers import C5, NO_NORM, crops, share, train, train_each, train_model
from torch import nn

import configs
from pixpro_d2.modeling.pretrain.distillation import Distillation
from pixpro_d2.modeling.pretrain.projector import LevelHeads
from pixpro_d2.utils.errors import UsageError

DISTILL = "MODEL.PIXPRO.DISTILL"
ALONE = ("MODEL.PIXPRO.PIXEL_WEIGHT", 0.0)
BOXES = [[10.0, 20, 50, 44], [60, 5, 20, 45], [0, 0, 30, 30]], [[40.0, 10, 4, 58], [30, 5, 70, 45], [40, 40, 60, 60]]


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    return save_script(tmp_path_factory.mktemp("teacher") / "teacher.pt")


def distilled(script, *opts):
    return f"{DISTILL}.WEIGHT", 1.0, f"{DISTILL}.TEACHER", script, *opts


def built(*opts, config="pretrain/quickstart.yaml"):
    torch.manual_seed(0)
    return build_model(configs.tiny(*opts, config=config)).train()


def losses_of(model, batch):
    with EventStorage():
        return model(batch)


@pytest.mark.parametrize("view", ["other", "same"])
@pytest.mark.parametrize("loss", ["cosine", "smooth_l1"])
def test_loss_against_slow(view, loss):
    """Three images: one pair overlaps, one is a mirrored neighbour, one has no common part; grids finer and coarser."""
    generator = torch.Generator().manual_seed(0)
    views = [torch.randn(3, 3, 48, 64, generator=generator) for _ in range(2)]
    boxes = [torch.tensor(box) for box in BOXES]
    grids = {"fine": (9, 10), "coarse": (2, 3)}
    features = [{name: torch.randn(3, 5, *grid, generator=generator) for name, grid in grids.items()} for _ in range(2)]
    torch.manual_seed(1)
    projector = LevelHeads(lambda width: nn.Conv2d(width, 4, 1), dict.fromkeys(grids, 5), shared=False)
    frozen = teacher()
    distillation = Distillation(frozen, projector, 3.0, view, loss)
    losses = distillation(views, features, boxes if view == "other" else None)
    assert frozen.network.calls == 2  # once for each view, for both levels
    maps = [frozen(x).numpy() for x in views]
    for level in grids:
        projections = [projector[level](x[level]).detach().numpy() for x in features]
        want = 3 * slow_loss(projections, maps, [box.numpy() for box in boxes], view, loss) / 2
        assert losses[f"loss_distill_{level}"].item() == pytest.approx(want, rel=1e-4)


def test_frames_of_a_video_have_a_teacher_of_the_same_view(script):
    opts = ("INPUT.PIXPRO.N_FRAMES", 3, "MODEL.PIXPRO.OFFICIAL_ROUNDING", True, f"{DISTILL}.VIEW", "same")
    assert built(*C5, *distilled(script, *opts)).distillation.view == "same"


def test_nothing_of_the_teacher_is_part_of_the_model(script):
    model = built(*distilled(script))
    network = model.distillation.teacher.network
    before = copy.deepcopy(network.state_dict())
    own = {id(x) for x in (*model.parameters(), *model.buffers())}
    assert not own & {id(x) for x in (*network.parameters(), *network.buffers())}
    assert not [name for name in model.state_dict() if "teacher" in name]
    assert all(part is not network for part in model.modules())
    train_model(model, [crops([1, 1, 0, 1])])
    assert model.training and not network.training
    assert all(torch.equal(x, before[name]) for name, x in network.state_dict().items())
    assert not any(p.requires_grad or p.grad is not None for p in network.parameters())


def test_the_teacher_is_frozen_in_eval_mode_and_gives_no_graph():
    network = Averages()
    frozen = teacher(network)
    images = torch.rand(2, 3, 16, 16, requires_grad=True)
    assert not frozen(images).requires_grad
    assert not network.training and not network.norm.running_mean.any()


def test_the_loss_adds_to_the_method(script):
    batch = crops([1, 1, 0, 1])
    plain, both = built(*C5), built(*C5, *distilled(script, f"{DISTILL}.VIEW", "same"))
    both.load_state_dict(plain.state_dict(), strict=False)
    losses = losses_of(plain, batch), losses_of(both, batch)
    assert list(losses[1]) == ["loss_pix_res5", "loss_distill_res5"]
    torch.testing.assert_close(losses[0]["loss_pix_res5"], losses[1]["loss_pix_res5"])
    assert 0 < losses[1]["loss_distill_res5"] < 2
    assert len(both.state_dict()) == len(plain.state_dict()) + len(both.distillation.state_dict())


def test_the_sum_over_the_levels_is_their_mean(script):
    model = built(*distilled(script, f"{DISTILL}.WEIGHT", 2.0, *ALONE))
    losses = losses_of(model, crops([1, 1, 1, 1]))
    assert list(losses) == [f"loss_distill_p{i}" for i in (3, 4, 5, 6)]
    model.distillation.weight = 4.0
    doubled = losses_of(model, crops([1, 1, 1, 1]))
    for name, loss in losses.items():
        assert doubled[name].item() == pytest.approx(2 * loss.item(), rel=1e-5)
        assert loss.item() == pytest.approx(2 / 4, rel=0.2)  # random directions, 1 - cos near 1


def test_alone_neither_target_nor_pixel_loss_is_computed(script, monkeypatch):
    model = built(*distilled(script, *ALONE))
    assert model.compares_branches is False and not model.has_unused_parameters

    def refuse(*args, **kwargs):
        raise AssertionError("not needed")

    for module in (model.target_backbone, model.projector, model.target_projector, model.ppm, model.method):
        monkeypatch.setattr(module, "forward", refuse)
    before = copy.deepcopy(model.state_dict())
    train_model(model, [crops([1, 1, 0, 1])])
    without = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert without == []
    after = model.state_dict()
    assert list(after) == list(before)
    moved = {name.split(".")[0] for name, x in after.items() if not torch.equal(x, before[name])}
    assert moved == {"backbone", "target_backbone", "distillation"}  # the target still follows


def test_alone_an_evaluation_still_compares_both_branches(script):
    model = built(*distilled(script, *ALONE)).eval()
    with torch.no_grad():
        losses, comparisons = model.compare(*model.views_and_geometry(crops([1, 1])))
    assert list(comparisons) == ["p3", "p4", "p5", "p6"] and losses["loss_pix_p3"] == 0


def test_the_terms_work_without_the_pixel_loss(script):
    terms = ("MODEL.PIXPRO.VARIANCE_WEIGHT", 2.0, "MODEL.PIXPRO.COVARIANCE_WEIGHT", 0.08)
    model = built(*C5, *distilled(script, *ALONE, *terms))
    losses = losses_of(model, crops([1, 1, 0, 1]))
    assert list(losses) == ["loss_variance_res5", "loss_covariance_res5", "loss_distill_res5"]
    sum(losses.values()).backward()
    assert all(p.grad is not None for p in model.projector.parameters())
    assert [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None] == []


def test_an_instance_branch_needs_the_target(script):
    model = built(*distilled(script, *ALONE, "MODEL.PIXPRO.INSTANCE.WEIGHT", 1.0))
    assert model.compares_branches
    assert "loss_ins" in losses_of(model, crops([1, 1, 0, 1]))


def test_the_dense_head_learns_from_the_teacher_too(script):
    fcos = ("MODEL.FPN.OUT_CHANNELS", 64, "MODEL.RESNETS.DEPTH", 18, "MODEL.RESNETS.RES2_OUT_CHANNELS", 64)
    model = built(*fcos, *distilled(script, *ALONE), config="pretrain/pixpro_fpn_fcos_head.yaml")
    sum(losses_of(model, crops([1, 1, 0, 1])).values()).backward()
    assert any(p.grad.any() for p in model.head.parameters() if p.grad is not None)


def test_training_lowers_the_loss(script):
    model = built(*C5, *distilled(script, *ALONE))
    history = train_model(model, [crops([1, 1, 1, 1])] * 6)
    assert history[-1]["loss_distill_res5"] < 0.8 * history[0]["loss_distill_res5"]


@pytest.mark.slow
def test_two_processes_equal_one(script, tmp_path):
    """In the second process only one image counts: means and standardisation are over both processes."""
    batches = [crops([1, 1, 0, 1], seed=i) for i in range(2)]
    runs = {view: (distilled(script, *ALONE, f"{DISTILL}.VIEW", view, *NO_NORM), batches) for view in ("other", "same")}
    halves = in_processes(tmp_path, train_each, runs)
    for name, (opts, _) in runs.items():
        whole = train(opts, batches)
        for half in (half[name] for half in halves):
            assert half["losses"] == [pytest.approx(losses, abs=1e-5) for losses in whole["losses"]]
            torch.testing.assert_close(half["gradients"], whole["gradients"], atol=1e-6, rtol=1e-4)
        separate = [train(opts, [share(batches[0], rank, 2)])["losses"][0] for rank in range(2)]
        mean = sum(losses["loss_distill_res5"] for losses in separate) / 2
        assert abs(mean - whole["losses"][0]["loss_distill_res5"]) > 1e-4


@pytest.mark.parametrize(
    "opts, message",
    [
        (
            ("MODEL.PIXPRO.IN_FEATURES", [], "MODEL.PIXPRO.INSTANCE.WEIGHT", 1.0),
            "IN_FEATURES is empty, but .* name the",
        ),
        (
            ("INPUT.PIXPRO.N_FRAMES", 3),
            "^INPUT.PIXPRO.N_FRAMES is 3, but a teacher of the other view .* set MODEL.PIXPRO.DISTILL.VIEW same",
        ),
        (("MODEL.PIXPRO.OFFICIAL_ROUNDING", True), "^MODEL.PIXPRO.OFFICIAL_ROUNDING is True, but a teacher of the oth"),
    ],
)
def test_keys_that_do_not_go_together(script, opts, message):
    with pytest.raises(UsageError, match=message):
        built(*distilled(script, *opts))
