"""The evaluation of a pre-training, on models and images whose answer is known, in one process and in two."""

import shutil

import pytest
import torch
from data_helpers import write_images
from distributed_helpers import in_processes
from pretext_helpers import LEVELS, build, config

import configs
from pixpro_d2.data.datasets.catalog import ensure_registered
from pixpro_d2.evaluation import pretext
from pixpro_d2.evaluation.pretext import ema_distance, evaluate_pretext, held_out_images
from pixpro_d2.utils.errors import UsageError


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pretext") / "images"
    write_images(folder, 5, size=(70, 90))
    return folder


def test_what_is_recorded(images):
    cfg = config(images)
    model = build(cfg)
    results = evaluate_pretext(cfg, model)
    assert set(results) == {*pretext.RECORDED, "test", "ema_distance"}
    for name, (low, high) in {"match_accuracy": (0, 1), "chance": (0, 0.5), "effective_rank": (1, 32),
                              "effective_rank_projected": (1, 32), "height_r2": (-100, 1),
                              "uniformity": (-8, 0)}.items():  # fmt: skip
        assert list(results[name]) == LEVELS and all(low <= value <= high for value in results[name].values()), name
    assert set(results["test"]) == {"feature_std", "images_without_pair"}
    assert results["ema_distance"] == 0  # the target starts as a copy
    assert evaluate_pretext(cfg, model) == results


def test_one_image_at_a_level_of_one_pixel(images, tmp_path):
    """With the terms of the loss, which need two pixels: they belong to training."""
    shutil.copytree(images, tmp_path / "one", ignore=shutil.ignore_patterns("00[1-4].png"))
    terms = ["MODEL.PIXPRO.VARIANCE_WEIGHT", 2.0, "MODEL.PIXPRO.COVARIANCE_WEIGHT", 0.08]
    cfg = config(tmp_path / "one", *terms, "INPUT.PIXPRO.CROP_SIZE", 64, "MODEL.PIXPRO.IN_FEATURES", ["p5", "p6"])
    results = evaluate_pretext(cfg, build(cfg))
    assert results["chance"]["p6"] == results["match_accuracy"]["p6"] == 1


def test_nothing_is_evaluated_without_test_data():
    cfg = configs.tiny("DATASETS.TEST", ())
    assert evaluate_pretext(cfg, None) == {}


def test_distance_of_the_target(images):
    model = build(config(images))
    with torch.no_grad():
        for _, target in model.momentum_pairs():
            for parameter in target.parameters():
                parameter.mul_(1.5)
    assert ema_distance(model) == pytest.approx(0.5)


def test_images_are_spread_over_the_data_set(images, monkeypatch):
    monkeypatch.setattr(pretext, "COUNT", 2)
    assert [image["file_name"][-7:] for image in held_out_images(config(images))] == ["000.png", "002.png"]


def test_errors_name_the_key(images, tmp_path):
    write_images(tmp_path / "videos" / "a", 2, size=(70, 90))
    name = f"video:{tmp_path / 'videos'}"
    ensure_registered([name])
    with pytest.raises(UsageError, match="DATASETS.TEST has videos"):
        held_out_images(configs.tiny("DATASETS.TEST", (name,)))
    with pytest.raises(UsageError, match="DATASETS.TEST has .*000.png, which is no video"):
        held_out_images(config(images, "INPUT.PIXPRO.N_FRAMES", 2))


def test_data_that_cannot_be_read_is_named(images, tmp_path):
    shutil.copytree(images, tmp_path / "images")
    cfg = config(tmp_path / "images", "DATALOADER.RETRY_SECONDS", 0.0)
    held_out_images(cfg)
    (tmp_path / "images").rename(tmp_path / "away")
    with pytest.raises(UsageError, match="No image of DATASETS.TEST can be read, the last is .*png"):
        evaluate_pretext(cfg, build(cfg))


def evaluate(folder, *opts):
    cfg = config(folder, *opts)
    return evaluate_pretext(cfg, build(cfg))


INSTANCE = ["MODEL.PIXPRO.INSTANCE.WEIGHT", 1.0, "MODEL.PIXPRO.INSTANCE.LOSS", "infonce"]


@pytest.mark.slow
def test_two_processes_agree(images, tmp_path):
    """With the instance loss that gathers keys of all processes."""
    first, second = in_processes(tmp_path, evaluate, images, *INSTANCE)
    assert first == second
    for name, values in evaluate(images, *INSTANCE).items():
        if name not in ("test", "ema_distance"):
            assert first[name] == pytest.approx(values, rel=1e-4), name
