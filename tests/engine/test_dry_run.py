"""A dry run: what it tells is what the run then does, and it leaves nothing behind."""

import contextlib
import io
import tempfile
import time
from pathlib import Path

import cli
import numpy as np
import pytest
import torch
from data_helpers import logged, noise
from detectron2.engine.train_loop import TrainerBase
from distributed_helpers import train
from PIL import Image
from rendering import render_once
from torch import nn
from torch.utils.data import DataLoader, Dataset

import configs
from pixpro_d2.engine.dry_run import Trial, reading_seconds, speed, try_iterations
from pixpro_d2.utils.errors import UsageError

SMALL = ["INPUT.MIN_SIZE_TRAIN", "(64,)", "INPUT.MIN_SIZE_TEST", 64]

scenes = render_once(train=8, test=2, size=96)


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """Folder of temporary files, which must be empty at the end."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield
    assert not list(folder.iterdir())


def pretraining(scenes, folder, *opts):
    data = ["DATASETS.TRAIN", f"('images:{scenes}/JPEGImages',)"]
    return ["--config-file", "configs/pretrain/quickstart.yaml", *data, *configs.TINY, *opts, "OUTPUT_DIR", folder]


def told(*args):
    """What a dry run in this process prints."""
    with contextlib.redirect_stdout(io.StringIO()) as output:
        cli.run_here("--dry-run", *args)
    return output.getvalue()


def test_images_of_too_many_pixels(scenes, tmp_path, temporary, monkeypatch):
    """The limit is that of the run."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)  # what it is afterwards
    with pytest.raises(SystemExit, match=r"images in a row are unreadable.* than DATALOADER.MAX_IMAGE_PIXELS allows"):
        told(
            *pretraining(
                scenes, tmp_path / "out", "DATALOADER.MAX_IMAGE_PIXELS", 5000, "DATALOADER.MAX_UNREADABLE", 1.0
            )
        )


def test_a_pre_training_warns_of_lost_values(tmp_path, temporary):
    """16 grey levels are left of 12 bits in files of 16."""
    for i in range(4):
        Image.fromarray(16 * noise(i, 40, 40, 0).astype(np.uint16)).save(tmp_path / f"{i}.png")
    data = ["DATASETS.TRAIN", f"('images:{tmp_path}',)", "SOLVER.MAX_ITER", 1]
    with logged("pixpro_d2.data.inspection.stored_values") as messages:
        cli.run_here("--dry-run", "--config-file", "configs/pretrain/quickstart.yaml", *data, *configs.TINY)
    (message,) = messages
    assert message.startswith("In 4 images, the values ") and "16 of 256 grey levels: set INPUT.PIXEL_RANGE" in message


@pytest.mark.slow
def test_pretraining(scenes, tmp_path, temporary):
    """The losses are those of the run, to all digits that are printed, and a checkpoint is as large."""
    opts = ["SOLVER.MAX_ITER", 2, "SOLVER.BASE_LR", 0.1, "SEED", 7]
    output = told(*pretraining(scenes, tmp_path / "out", *opts))
    assert not (tmp_path / "out").exists()
    for line in (
        "  MODEL.FPN.OUT_CHANNELS 32",
        "  SEED 7",
        f"  OUTPUT_DIR '{tmp_path}/out'",
        f"Training data: 10 images in an epoch of images:{scenes}/JPEGImages",
        "Length: 2 iterations, 1.00 epochs",
        "Batch: 4 images, 4 in each of 1 processes",
    ):
        assert line in output.splitlines()
    assert "dry_run.pth" not in output
    assert "MODEL.MASK_ON" not in output and "METRICS_PERIOD" not in output.partition("Keys that differ")[2]
    data = ["DATASETS.TRAIN", (f"images:{scenes}/JPEGImages",)]
    first, second = train(tmp_path, "pretrain/quickstart.yaml", [*data, *opts])["losses"]["total_loss"]
    (tried,) = [line for line in output.splitlines() if line.startswith("Tried 2 iterations: ")]
    assert f"total_loss {second:.4g}," in tried and f"total_loss {first:.4g}," not in tried
    checkpoint = float(output.partition("Checkpoint: ")[2].split()[0])
    assert checkpoint == pytest.approx((tmp_path / "1" / "model_final.pth").stat().st_size / 2**20, rel=0.01)
    states = float(output.partition("Memory of each process: ")[2].split()[0])
    assert states == pytest.approx(checkpoint, rel=0.02)  # which holds just these


@pytest.mark.slow
def test_detection(scenes, temporary):
    data = ["DATASETS.TRAIN", f"('voc:{scenes}@train',)", "DATASETS.TEST", f"('voc:{scenes}@test',)"]
    args = ["--config-file", "configs/voc/faster_rcnn_R_18_FPN_small.yaml", *data, *configs.TINY_DETECTOR, *SMALL]
    output = told(*args, "--init", "random", "MODEL.ROI_HEADS.NUM_CLASSES", 5, "SEED", -1)
    folder = "output/voc_faster_rcnn_R_18_FPN_small_random"
    assert f"  OUTPUT_DIR '{folder}'" in output and not Path(folder).exists()
    assert f"Test data: 2 images of voc:{scenes}@test" in output and "Training data: 8 images" in output
    assert "Tried 2 iterations: " in output and "loss_rpn_cls" in output and "momentum of the target" not in output
    assert "  SEED" not in output  # of the run, drawn anew; -1 is the default


@pytest.mark.slow
def test_two_processes_tell_once(scenes, tmp_path):
    output = cli.run("--dry-run", "--num-gpus", 2, *pretraining(scenes, tmp_path / "out"))
    assert output.count("Batch: 4 images, 2 in each of 2 processes") == 1 and output.count("The run would take") == 1
    assert not (tmp_path / "out").exists()


class Slow(Dataset):
    """Images that take 0.1 s each."""

    def __len__(self):
        return 100

    def __getitem__(self, index):
        time.sleep(0.1)
        return index


def test_slow_data_are_noticed():
    """Two workers load four batches before the loader is asked for the second, which is there at once."""
    loader = DataLoader(Slow(), num_workers=2, batch_size=1)
    batches = iter(loader)
    next(batches)
    time.sleep(0.5)
    assert reading_seconds(loader, batches) > 0.04  # 0.05 by two workers
    assert reading_seconds(DataLoader([]), batches) == 0


@pytest.mark.parametrize(
    ("reading", "expected"),
    [(0.0, (0.5, 0.1)), (0.3, (0.4, 0.0)), (0.6, (0.6, 0.2))],  # no workers, quick ones, slow ones
)
def test_an_iteration_waits_for_slow_data(reading, expected):
    trial = Trial(seconds=0.5, data_seconds=0.1, losses={}, states=0, peak=0, checkpoint=0)
    assert speed(trial, reading) == pytest.approx(expected)


def test_evaluation_has_none():
    with pytest.raises(SystemExit, match="error: --dry-run is for training: remove --eval-only"):
        cli.run_here("--dry-run", "--eval-only", "--config-file", "configs/pretrain/quickstart.yaml")


@pytest.mark.parametrize("config", ["pretrain/quickstart.yaml", "voc/faster_rcnn_R_18_FPN_small.yaml"])
def test_too_little_memory_is_a_sentence(config):
    class Trainer(TrainerBase):
        model, max_iter, cfg = nn.Linear(1, 1), 5, configs.tiny(config=config)

        def run_step(self):
            raise torch.cuda.OutOfMemoryError("CUDA out of memory.")

    with pytest.raises(UsageError, match="does not fit into the GPU's memory: lower SOLVER.IMS_PER_BATCH") as caught:
        try_iterations(Trainer())
    assert ("RECOMPUTE" in str(caught.value)) == ("pretrain" in config)
