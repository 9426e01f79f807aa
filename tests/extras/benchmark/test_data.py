"""Measuring the input pipeline: what is measured; no test here is about how long anything takes."""

import random

import cv2
import numpy as np
import pytest
import torch
from data_helpers import assert_same_distribution, describe_images, make_cfg, write_images
from PIL import Image

from pixpro_d2.data.pretrain.mapper import TwoViewMapper
from pixpro_d2.data.pretrain.photometric import POLICIES
from pixpro_d2.data.pretrain.samples import load_images
from pixpro_d2.extras.benchmark import data
from pixpro_d2.extras.benchmark.plain_pipeline import PlainTwoViews
from pixpro_d2.extras.scenes.scene import describe_scene, render_scene


@pytest.fixture
def cfg(tmp_path):
    write_images(tmp_path / "images", 10, size=(12, 16))
    return make_cfg(f"images:{tmp_path / 'images'}")


def test_stage_times(cfg):
    times = data.stage_times(cfg, load_images(cfg.DATASETS.TRAIN), count=3, repetitions=2)
    stages = ["read", "decode", "crop and resize", "photometric", "collate"]
    assert list(times) == [*stages, "sample, cpu", "sample, model"]
    assert all(value > 0 for value in times.values())


def test_times_are_per_image(cfg, monkeypatch):
    # A clock that goes on by a second each time it is looked at: every stage of an image takes a second.
    clock = iter(range(10_000))
    monkeypatch.setattr(data.time, "process_time", lambda: next(clock))
    times = data.stage_times(cfg, load_images(cfg.DATASETS.TRAIN), count=4, repetitions=1)
    assert times.pop("collate") == 250  # ms; once for all four
    assert set(times.values()) == {1000}


def test_compare_pipelines(cfg, monkeypatch):
    # Start and end of plain, cpu and model; of the first repetition, which does not count, and of two more.
    seconds = iter([0, 1, 0, 1, 0, 1, 0, 8, 0, 4, 0, 1, 0, 6, 0, 4, 0, 1.5])
    monkeypatch.setattr(data.time, "process_time", lambda: next(seconds))
    result = data.compare_pipelines(cfg, load_images(cfg.DATASETS.TRAIN), count=8, repetitions=2)
    assert list(result) == ["plain", "cpu", "model", "cpu / plain", "model / plain"]
    assert result["cpu"] == {"median": 2, "lowest": 2, "highest": 2}
    assert result["model"] == pytest.approx({"median": 20 / 3, "lowest": 16 / 3, "highest": 8})
    assert result["cpu / plain"] == pytest.approx({"median": 1.75, "lowest": 1.5, "highest": 2})
    assert result["model / plain"] == pytest.approx({"median": 6, "lowest": 4, "highest": 8})


@pytest.mark.parametrize("workers", [0, 2])
def test_loader_rate(cfg, workers):
    cfg.DATALOADER.NUM_WORKERS = workers
    result = data.loader_rate(cfg, seconds=0.01)
    assert result["workers"] == workers and result["seconds"] >= 0.01
    assert result["images"] > 0 and result["images"] % cfg.SOLVER.IMS_PER_BATCH == 0
    assert result["images_per_second"] == result["images"] / result["seconds"]


def test_threads_are_given_back():
    before = torch.get_num_threads(), cv2.getNumThreads()
    with pytest.raises(KeyError), data.one_thread():
        assert torch.get_num_threads() == 1
        raise KeyError
    assert (torch.get_num_threads(), cv2.getNumThreads()) == before


def test_plain_views_are_distributed_as_ours(tmp_path):
    # Two samples of 500 images agree within a Kolmogorov-Smirnov distance of 0.123 in each statistic.
    path = str(tmp_path / "scene.jpg")
    Image.fromarray(render_scene(describe_scene(seed=0, index=2, height=60, width=80))[0]).save(path)
    mapper = TwoViewMapper(make_cfg(INPUT__PIXPRO__CROP_SIZE=32))
    plain = PlainTwoViews(POLICIES["byol"], crop_size=32, min_scale=mapper.min_scale)
    state = random.getstate()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        random.seed(0)
        theirs = torch.stack([plain(path) for _ in range(500)]).numpy()
    random.setstate(state)
    ours = np.stack([mapper({"file_name": path}, np.random.default_rng(seed))["views"] for seed in range(500)])
    assert theirs.shape == ours.shape and theirs.dtype == ours.dtype
    for view in range(2):
        for what, values in describe_images(theirs[:, view]).items():
            assert_same_distribution(values, describe_images(ours[:, view])[what], f"{what} of view {view}")
