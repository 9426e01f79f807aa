"""The measured step is the trainer's, on any source of batches."""

import itertools

import benchmark_helpers
import pytest
import torch
from benchmark_helpers import C5, FPN, measured
from data_helpers import write_images

from pixpro_d2.engine.acceleration import accelerate
from pixpro_d2.engine.hooks import EMAHook
from pixpro_d2.engine.loop import TrainLoop
from pixpro_d2.extras.benchmark.sources import build_batches, synthetic_batch
from pixpro_d2.extras.benchmark.step import TrainingStep, build_start, measured_config
from pixpro_d2.extras.benchmark.timing import time_parts
from pixpro_d2.extras.benchmark.traffic import count_work
from pixpro_d2.extras.benchmark.training import measure_training, precision, profile_training
from pixpro_d2.solver.build import build_optimizer
from pixpro_d2.utils.errors import UsageError

LEVELS = {C5: 1, FPN: 4}


@pytest.mark.parametrize("config", LEVELS)
def test_steps_are_those_of_the_training_loop(config):
    cfg = measured(config, "SOLVER.MAX_ITER", 3)
    training = TrainingStep(cfg, read_period=1)
    for _ in range(3):
        training.step()
    model = accelerate(cfg, build_start(cfg))
    loop = TrainLoop(model, build_batches(cfg, "synthetic"), build_optimizer(cfg, model))
    loop.register_hooks([EMAHook(model)])
    loop.train(0, 3)
    for (name, got), expected in zip(training.model.state_dict().items(), model.state_dict().values()):
        assert torch.equal(got, expected), name
    total = loop.storage.latest()["total_loss"][0]
    assert len(training.values()) == LEVELS[config] and sum(training.values()) == pytest.approx(total)


def test_parts_are_complete_and_leave_the_step_as_it_was():
    cfg = measured(FPN)
    parts = time_parts(training := TrainingStep(cfg), 2)
    assert list(parts) == [*training.parts, "rest"] and all(seconds > 0 for seconds in parts.values())
    untimed = TrainingStep(cfg)
    for step in (untimed.step, untimed.step, untimed.step, training.step):
        step()
    expected = untimed.model.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in training.model.state_dict().items())


def test_the_rate_is_that_of_the_first_iteration():
    # 4.0 at batch 1024, linear; the warm-up begins with a hundredth of it.
    rate = measured(C5).SOLVER.BASE_LR
    assert rate == pytest.approx(4.0 * 4 / 1024 * 0.01)
    assert measured(C5, batch=8).SOLVER.IMS_PER_BATCH == 8


def test_synthetic_batches_are_like_the_mappers():
    cfg = measured(C5, "INPUT.AUG_DEVICE", "model")
    TrainingStep(cfg, "cached").step()  # recipes survive the way to the device
    batch = synthetic_batch(cfg, 3)
    assert batch["views"].shape == (3, 2, 3, 64, 64) and batch["views"].dtype == torch.uint8
    assert batch["views"].float().std() > 70  # uniform in 0 .. 255: 73.9
    width = (batch["boxes"][..., 2] - batch["boxes"][..., 0]).abs()
    assert (width > 0).all() and (width <= 500).all() and len(batch["recipes"]) == 2
    assert "recipes" not in synthetic_batch(measured(C5), 3)


def test_synthetic_views_for_a_model_that_augments_are_rgb():
    grey = ("INPUT.FORMAT", "L", "MODEL.PIXEL_MEAN", [100.0], "MODEL.PIXEL_STD", [50.0])
    cfg = measured(C5, "INPUT.AUG_DEVICE", "model", *grey)
    assert synthetic_batch(cfg, 2)["views"].shape == (2, 2, 3, 64, 64)
    TrainingStep(cfg).step()
    assert synthetic_batch(measured(C5, *grey), 2)["views"].shape == (2, 2, 1, 64, 64)


def test_sources(tmp_path):
    write_images(tmp_path / "images", 4, size=(40, 40))
    cfg = measured(C5, folder=str(tmp_path / "images"))
    synthetic, cached = (list(itertools.islice(build_batches(cfg, source), 2)) for source in ("synthetic", "cached"))
    assert torch.equal(synthetic[0]["views"], cached[1]["views"])
    loaded = next(iter(build_batches(cfg, "loader")))
    assert loaded["views"].shape == synthetic[0]["views"].shape
    assert sorted(loaded["file_names"]) == sorted(str(path) for path in (tmp_path / "images").iterdir())


def test_measured_training(tmp_path):
    write_images(tmp_path / "images", 4, size=(40, 40))
    cfg = measured(C5, "INPUT.AUG_DEVICE", "model", folder=str(tmp_path / "images"))
    result = measure_training(cfg, "loader", repeats=2, warmup=1)
    assert result["images"] == 4 and len(result["seconds"]) == 2
    assert result["images_per_second_overall"] == pytest.approx(8 / sum(result["seconds"]))
    slow, fast = sorted(4 / seconds for seconds in result["seconds"])
    assert result["images_per_second"]["min"] == pytest.approx(slow)
    assert result["images_per_second"]["max"] == pytest.approx(fast)
    typical = sum(result["seconds"]) / 2  # the median of two
    assert result["flops"] == pytest.approx(result["flop"] / typical)
    assert result["bandwidth"] == pytest.approx(result["bytes"] / typical)
    assert min(result["flops_bound"], result["bandwidth_bound"], result["peak_bytes"]) > 0


def test_work_grows_with_the_batch():
    """Arithmetic in proportion; the traffic of the weights stays."""
    first, second = (count_work(TrainingStep(measured(C5, batch=n), "cached")) for n in (2, 4))
    assert second["flop"] == 2 * first["flop"]
    assert first["bytes"] < second["bytes"] < 2 * first["bytes"]


def test_precisions():
    assert precision(measured(C5)) == "float32"
    cfg = measured(C5)
    cfg.MODEL.DEVICE, cfg.SOLVER.AMP.ENABLED = "cuda", True
    assert precision(cfg) == "half"
    cfg.SOLVER.AMP.ENABLED = False
    assert precision(cfg) == "tf32"
    cfg.SOLVER.AMP.TF32 = False
    assert precision(cfg) == "float32"


def test_profile_names_operators():
    assert "convolution_backward" in profile_training(measured(C5, batch=2), steps=1, rows=10)


def test_what_cannot_be_measured_is_refused():
    with pytest.raises(UsageError, match="is not of a pre-training"):
        measured_config(benchmark_helpers.config_file("voc/faster_rcnn_R_18_FPN_small.yaml"))
    with pytest.raises(UsageError, match="no synthetic videos.*--source loader"):
        TrainingStep(measured("pretrain/pixpro_video_quickstart.yaml"))
