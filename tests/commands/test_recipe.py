"""Recipe, batch, length, processes and workers that suit data and machine; expected values by hand."""

import pytest

from pixpro_d2.commands.machine import Machine
from pixpro_d2.commands.recipe import (
    choose_batch,
    choose_iterations,
    choose_processes,
    choose_recipe,
    choose_workers,
)
from pixpro_d2.config_files import config_path

CPU = Machine("cpu", 1, 0.0, 2)
GPU = Machine("cuda", 1, 24.0, 8)
EIGHT = Machine("cuda", 8, 80.0, 64)


@pytest.mark.parametrize(
    ("images", "is_video", "machine", "name", "why"),
    [
        (50, False, CPU, "pretrain/quickstart", "50 images are few"),
        (1999, False, GPU, "pretrain/quickstart", "1999 images are few"),
        (2000, False, CPU, "pretrain/small_data_r18_fpn", "there are 2000 images and no GPU"),
        (10**6, False, CPU, "pretrain/small_data_r18_fpn", "there are 1000000 images and no GPU"),
        (99999, False, GPU, "pretrain/small_data_r18_fpn", "99999 images are few for the recipe for ImageNet"),
        (100000, False, GPU, "pretrain/pixpro_fpn", "there are 100000 images and a GPU"),
        (3, True, GPU, "pretrain/pixpro_video_quickstart", "the data are videos"),
    ],
)
def test_recipe(images, is_video, machine, name, why):
    assert choose_recipe(images, is_video, machine) == (name, why)
    assert config_path(name)


@pytest.mark.parametrize(
    ("wanted", "images", "crop", "machine", "batch"),
    [
        (16, 1000, 96, CPU, 16),
        (16, 10, 96, CPU, 8),  # the power of two below 10
        (1024, 10**6, 224, CPU, 16),
        (32, 3000, 64, CPU, 32),  # 16 * (96 / 64) ** 2 = 36
        (1024, 10**6, 224, GPU, 64),  # (0.85 * 24 - 4) / 0.145 = 113.1
        (1024, 10**6, 224, EIGHT, 1024),  # 8 * (0.85 * 80 - 4) / 0.145 = 8 * 441
        (1024, 1000, 224, EIGHT, 512),  # 125 images for each
        (16, 1000, 96, Machine("cuda", 3, 24.0, 8), 12),  # 4 for each
    ],
)
def test_batch(wanted, images, crop, machine, batch):
    assert choose_batch(wanted, images, crop, machine) == batch


@pytest.mark.parametrize(
    ("epochs", "images", "batch", "device", "iterations"),
    [
        (20, 50, 16, "cpu", 500),  # 20 * 3 are too few
        (20, 1000, 16, "cpu", 1240),  # 20 * 62
        (20, 100_000, 16, "cpu", 5000),  # 125 000 are too many
        (20, 100_000, 16, "cuda", 125_000),
        (100, 10_000, 128, "cuda", 7800),  # 100 * 78
        (100, 500, 128, "cuda", 2000),
    ],
)
def test_iterations(epochs, images, batch, device, iterations):
    assert choose_iterations(epochs, images, batch, device) == iterations


@pytest.mark.parametrize(
    ("wanted", "machine", "workers"),
    [
        (2, CPU, 1),
        (2, Machine("cpu", 1, 0.0, 1), 1),
        (8, Machine("cpu", 2, 0.0, 12), 5),
        (2, GPU, 8),
        (16, EIGHT, 8),
        (2, Machine("cuda", 1, 80.0, 64), 16),
        (2, Machine("cuda", 4, 80.0, 2), 1),
    ],  # fmt: skip
)
def test_workers(wanted, machine, workers):
    assert choose_workers(wanted, machine) == workers


def test_words_for_a_machine():
    assert (str(CPU), str(GPU), str(EIGHT)) == ("the CPU", "1 GPU of 24 GiB", "8 GPUs of 80 GiB")


@pytest.mark.parametrize(("batch", "gpus", "processes"), [(8, 1, 1), (8, 3, 2), (8, 7, 4), (8, 16, 8), (16, 6, 4)])
def test_processes_share_the_batch(batch, gpus, processes):
    assert choose_processes(batch, gpus) == processes
