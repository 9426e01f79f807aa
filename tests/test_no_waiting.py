"""No step waits for its device, and all of it happens there: steps on a device that has no values to wait for."""

import pytest
import torch
from benchmark_helpers import FPN, measured
from detectron2.utils.events import EventStorage
from device_helpers import META, NoAutocast, watched
from distillation_helpers import Averages, save_run
from flow_helpers import Differences
from learner_helpers import images, small_learner

import configs
from pixpro_d2.engine.trainer import Trainer
from pixpro_d2.extras.benchmark import step
from pixpro_d2.extras.benchmark.sources import Repeated, synthetic_batch
from pixpro_d2.flow.grid import to_grid
from pixpro_d2.modeling.pretrain import correspondence_builder

LARS = ("SOLVER.OPTIMIZER", "LARS")  # PyTorch's own SGD waits for nothing only if it is fused
VIDEO = ("INPUT.PIXPRO.N_FRAMES", 3, "MODEL.PIXPRO.FLOW.CONSISTENCY", "pixel")
SLOTS = ("MODEL.PIXPRO.SLOTCON.NUM_PROTOTYPES", 12)
METHODS = {
    "PixPro": ("pixpro_c5_100ep", ()),
    "PixPro on a pyramid": ("pixpro_fpn", ()),
    "PixPro through RetinaNet's head": ("pixpro_fpn_retinanet_head", ()),
    "PixPro through FCOS's head": ("pixpro_fpn_fcos_head", ()),
    "PixPro and BYOL": ("pixpro_ins_c5_100ep", ()),
    "PixContrast": ("pixcontrast_fpn", ()),
    "SimCLR*": ("simclr_star_c5_100ep", ()),
    "DenseCL": ("densecl_c5_200ep", LARS),
    "SlotCon": ("slotcon_c5_100ep", SLOTS),
    "SlotCon on a pyramid": ("slotcon_fpn", SLOTS),
    "parts of a batch": ("pixpro_c5_100ep", ("SOLVER.ACCUMULATION_STEPS", 2)),
    "colours by the model": ("pixpro_fpn", ("INPUT.AUG_DEVICE", "model")),
    "recomputation": ("pixpro_c5_100ep", ("MODEL.PIXPRO.RECOMPUTE", True)),
}


@pytest.fixture(autouse=True)
def on_meta(monkeypatch):
    """Stand-ins for the two things that PyTorch does not have there."""

    def fused_sgd(*tensors, found_inf, **kwargs):
        assert {x.device for x in (*sum(tensors, []), found_inf)} == {META}

    monkeypatch.setattr(torch, "autocast", NoAutocast)
    monkeypatch.setattr(torch, "_fused_sgd_", fused_sgd)


def train(monkeypatch, cfg, batch):
    """Two steps on META, none of which reads the losses; returns what was copied there in the second."""
    cfg.MODEL.DEVICE = "meta"
    monkeypatch.setattr(step, "build_batches", lambda cfg, source: Repeated(batch))
    training = step.TrainingStep(cfg, read_period=100)
    assert training.device == META
    training.step()
    with watched() as watch:
        training.step()
    assert all(p.grad is not None for p in training.model.parameters() if p.requires_grad)
    return watch.copied


@pytest.mark.parametrize("method", METHODS)
def test_a_step_waits_for_nothing(monkeypatch, method):
    config, options = METHODS[method]
    cfg = measured(f"pretrain/{config}.yaml", *options)
    copied = train(monkeypatch, cfg, synthetic_batch(cfg, 4))
    parts = cfg.SOLVER.ACCUMULATION_STEPS
    assert copied.count((4 // parts, 2, 3, 64, 64)) == parts  # the views, once


@pytest.mark.parametrize("options", [(), ("MODEL.PIXPRO.PIXEL_WEIGHT", 1.0)])
def test_a_step_with_a_teacher_waits_for_nothing(monkeypatch, tmp_path, options):
    teacher = ("MODEL.PIXPRO.DISTILL.TEACHER", save_run(tmp_path / "run"))
    cfg = measured("pretrain/distill_fpn.yaml", *teacher, *options)
    assert train(monkeypatch, cfg, synthetic_batch(cfg, 4)).count((4, 2, 3, 64, 64)) == 1


def test_a_step_on_video_waits_for_nothing(monkeypatch):
    cfg = measured(FPN, *VIDEO, "MODEL.PIXPRO.FLOW.FILES", "flow")
    flow = dict(zip(("flow_there", "flow_back"), torch.rand(2, 4, 2, 2, 16, 17).half()))
    batch = {**synthetic_batch(measured(FPN), 4), **flow, "flow_sizes": torch.tensor([[16, 17]] * 4)}
    assert train(monkeypatch, cfg, batch).count((4, 2, 2, 16, 17)) == 2


def test_a_step_that_estimates_flow_waits_for_nothing(monkeypatch):
    """But for what the estimator does: torchvision's RAFT copies its coordinates from the host."""
    monkeypatch.setattr(correspondence_builder, "build_estimator", lambda *args: Differences())
    frames = torch.randint(256, (4, 3, 3, 40, 48), dtype=torch.uint8)
    batch = {**synthetic_batch(measured(FPN), 4), "frames": frames}
    assert train(monkeypatch, measured(FPN, *VIDEO), batch).count(frames.shape) == 1


def test_making_flow_coarse_waits_for_nothing():
    with watched():
        assert to_grid(torch.empty(2, 2, 40, 48, device=META), 8).shape == (2, 2, 5, 6)


@pytest.mark.parametrize(
    "options",
    [
        dict(method="pixpro", instance_weight=1.0),
        dict(method="pixcontrast", instance_weight=1.0),
        dict(pixel_weight=0.0, teacher=Averages()),
    ],
)
def test_a_step_of_the_learner_waits_for_nothing(options):
    learner = small_learner(**options)
    learner(images())  # looks at the range of its first images
    learner.to(META)
    if learner.distillation is not None:
        learner(images().to(META))  # moves the teacher there, once
    optimizer = torch.optim.SGD(learner.parameters(), 0.1)
    batch = images().to(META)
    with watched() as watch:
        loss, _ = learner(batch)
        loss.backward()
        optimizer.step()
        learner.update_target(0)
    assert watch.copied and learner.net.body[0].weight.grad is not None


def test_a_step_of_a_classification_waits_for_nothing():
    frozen = ("MODEL.BACKBONE.FROZEN", True, "MODEL.DEVICE", "meta", "SOLVER.METRICS_PERIOD", 100)
    model = Trainer.build_model(configs.tiny(*frozen, config="imagenet/linear_R_50_100ep.yaml")).train()
    batch = [{"image": torch.zeros(3, 32, 32, dtype=torch.uint8), "category_id": number} for number in range(4)]
    with EventStorage(0), watched() as watch:
        model(batch)["loss_cls"].backward()
    assert watch.copied == [(3, 32, 32)] * 4 + [(4,)] and model.fc.weight.grad is not None


def test_what_waits_is_found():
    here, there = torch.ones(3, 3), torch.ones(3, 3, device=META)
    with watched() as watch:
        here.to(META, non_blocking=True)
        there.copy_(here, non_blocking=True)
        there * here.sum()
        for wrong, message in (
            (lambda: there @ here, "mixes"),
            (lambda: here.to(META), "waits"),
            (lambda: there.copy_(here), "waits"),
            (lambda: torch.tensor([1.0], device=META), "waits"),
            (lambda: torch.as_tensor([1.0], device=META), "waits"),
            (lambda: there.new_tensor([1.0]), "waits"),
        ):
            with pytest.raises(AssertionError, match=message):
                wrong()
        for wrong in (there.sum().item, there.tolist, there.cpu, there.nonzero, lambda: there[there > 0]):
            with pytest.raises((RuntimeError, NotImplementedError)):
                wrong()
    assert watch.copied == [(3, 3)] * 2
