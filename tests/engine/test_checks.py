"""Mistakes in a config that are found before the run begins."""

import argparse

import pytest
from detectron2.utils import comm

import configs
from pixpro_d2.engine.checks import (
    check_batch,
    check_fresh_start,
    check_image_format,
    check_lengths,
    check_output_dir,
    check_task,
)
from pixpro_d2.engine.configure import load_config
from pixpro_d2.errors import UsageError

QUICKSTART = str(configs.CONFIGS / "pretrain/quickstart.yaml")


@pytest.mark.parametrize(
    "opts, message",
    [
        (["INPUT.FORMAT", "L"], "INPUT.FORMAT 'L'.*3 values of MODEL.PIXEL_MEAN"),
        (["MODEL.PIXEL_MEAN", [0.5]], "INPUT.FORMAT 'RGB'.*1 values of MODEL.PIXEL_MEAN"),
        (["INPUT.FORMAT", "YUV-BT.601"], "INPUT.FORMAT 'YUV-BT.601'"),
    ],
)
def test_channels_must_agree(opts, message):
    check_image_format(load_config(QUICKSTART, ["INPUT.FORMAT", "L", "MODEL.PIXEL_MEAN", [0.5]]))
    with pytest.raises(UsageError, match=message):
        check_image_format(load_config(QUICKSTART, opts))


def test_a_new_run_leaves_the_checkpoints_of_another_alone(tmp_path):
    cfg = load_config(QUICKSTART, ["OUTPUT_DIR", str(tmp_path)])
    fresh = argparse.Namespace(eval_only=False, resume=False)
    check_fresh_start(cfg, fresh)
    (tmp_path / "metrics.json").touch()
    check_fresh_start(cfg, fresh)
    (tmp_path / "model_0000199.pth").touch()
    with pytest.raises(UsageError, match=f"'{tmp_path}' holds the checkpoint model_0000199.pth of a run: add --resume"):
        check_fresh_start(cfg, fresh)
    check_fresh_start(cfg, argparse.Namespace(eval_only=False, resume=True))
    check_fresh_start(cfg, argparse.Namespace(eval_only=True, resume=False))


@pytest.mark.parametrize(
    "opts, message",
    [
        (["MODEL.META_ARCHITECTURE", "KNNClassifier"], "add --eval-only"),
        (["TEST.PRECISE_BN.ENABLED", True], "PRECISE_BN.ENABLED is for downstream tasks: .* set it False"),
        (["MODEL.BACKBONE.FROZEN", True], "pre-training would have nothing to train"),
        (["MODEL.BACKBONE.FROZEN", True, "MODEL.META_ARCHITECTURE", "RetinaNet"], "keep a random backbone"),
    ],
)
def test_tasks_that_cannot_be_trained(opts, message, tmp_path):
    args = argparse.Namespace(eval_only=False, resume=False)
    with pytest.raises(UsageError, match=message):
        check_task(load_config(QUICKSTART, opts), args)
    # A run of its own to resume makes the last one right.
    (tmp_path / "model_0000002.pth").touch()
    if "RetinaNet" in opts:
        args.resume = True
        check_task(load_config(QUICKSTART, [*opts, "OUTPUT_DIR", str(tmp_path)]), args)


@pytest.mark.parametrize("batch", [3, 0])
def test_batch_must_divide_among_the_processes(monkeypatch, batch):
    monkeypatch.setattr(comm, "get_world_size", lambda: 2)
    with pytest.raises(UsageError, match=f"IMS_PER_BATCH is {batch}.*multiple of the 2 processes"):
        check_batch(load_config(QUICKSTART, ["SOLVER.IMS_PER_BATCH", batch]))


@pytest.mark.parametrize("batch", [0, -8])
def test_the_reference_of_the_learning_rate_is_a_batch(batch):
    with pytest.raises(UsageError, match=f"SOLVER.LR_REFERENCE_BATCH is {batch}; it must be at least 1"):
        check_batch(load_config(QUICKSTART, ["SOLVER.LR_REFERENCE_BATCH", batch]))


@pytest.mark.parametrize("key", ["MAX_ITER", "CHECKPOINT_PERIOD", "METRICS_PERIOD"])
def test_lengths_are_positive(key):
    by_epochs = ["SOLVER.MAX_EPOCHS", 1]
    check_lengths(load_config(QUICKSTART, [*by_epochs, "SOLVER.MAX_ITER", 0]))  # resolved from the epochs later
    with pytest.raises(UsageError, match=f"SOLVER.{key} is 0; it must be at least 1"):
        check_lengths(load_config(QUICKSTART, ["SOLVER.MAX_EPOCHS", 0, f"SOLVER.{key}", 0]))


def test_the_output_folder_is_made_or_refused(tmp_path):
    check_output_dir(load_config(QUICKSTART, ["OUTPUT_DIR", str(tmp_path / "a" / "b")]))
    assert not list((tmp_path / "a" / "b").iterdir())
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="OUTPUT_DIR '.*file' cannot be written to"):
        check_output_dir(load_config(QUICKSTART, ["OUTPUT_DIR", str(tmp_path / "file")]))
