"""Mistakes in a config that are found before the run begins."""

import argparse

import pytest
from detectron2.layers import ShapeSpec
from detectron2.utils import comm

import configs
from pixpro_d2.engine.checks import (
    check_batch,
    check_evaluation,
    check_fresh_start,
    check_image_format,
    check_norm_inputs,
    check_output_dir,
    check_resnet,
    check_task,
)
from pixpro_d2.engine.configuration.configure import load_config, resolve_sync_bn
from pixpro_d2.utils.errors import UsageError

QUICKSTART = str(configs.CONFIGS / "pretrain/quickstart.yaml")
TIMM = ["MODEL.BACKBONE.NAME", "build_timm_fpn_backbone", "MODEL.TIMM.NORM", "FrozenBN"]


@pytest.mark.parametrize(
    "opts, message",
    [
        (["INPUT.FORMAT", "L"], "INPUT.FORMAT 'L'.*3 values of MODEL.PIXEL_MEAN"),
        (["MODEL.PIXEL_MEAN", [128.0], "MODEL.PIXEL_STD", [50.0]], "INPUT.FORMAT 'RGB'.*1 values of MODEL.PIXEL_MEAN"),
        (["INPUT.FORMAT", "YUV-BT.601"], "INPUT.FORMAT 'YUV-BT.601'"),
    ],
)
def test_channels_must_agree(opts, message):
    check_image_format(
        load_config(QUICKSTART, ["INPUT.FORMAT", "L", "MODEL.PIXEL_MEAN", [128.0], "MODEL.PIXEL_STD", [50.0]])
    )
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
        (["MODEL.BACKBONE.FREEZE_AT", 2], "FREEZE_AT is 2, which would keep the random weights of the first layers"),
        (["MODEL.RESNETS.NORM", "FrozenBN"], "RESNETS.NORM is FrozenBN, .*: set it to SyncBN, or name weights by"),
        (TIMM, "MODEL.TIMM.NORM is FrozenBN, which normalises nothing"),
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


def test_frozen_norms_of_trained_weights_are_right():
    args = argparse.Namespace(eval_only=False, resume=False)
    check_task(load_config(QUICKSTART, ["MODEL.RESNETS.NORM", "FrozenBN", "MODEL.WEIGHTS", "w.pth"]), args)
    check_task(load_config(QUICKSTART, ["MODEL.REGNETS.NORM", "FrozenBN"]), args)  # of another backbone
    check_task(
        load_config(QUICKSTART, ["MODEL.RESNETS.NORM", "FrozenBN", "MODEL.META_ARCHITECTURE", "RetinaNet"]), args
    )


def test_random_weights_are_not_evaluated_unless_they_are_a_baseline(tmp_path):
    opts = ["DATASETS.TEST", ("images:a",), "OUTPUT_DIR", str(tmp_path)]
    for more, resume in (([], False), ([], True), (["MODEL.META_ARCHITECTURE", "RetinaNet"], False)):
        with pytest.raises(UsageError, match="would evaluate random weights: set MODEL.WEIGHTS .* add --resume"):
            check_evaluation(load_config(QUICKSTART, [*opts, *more]), resume)
    check_evaluation(load_config(QUICKSTART, [*opts, "MODEL.META_ARCHITECTURE", "KNNClassifier"]), False)
    check_evaluation(load_config(QUICKSTART, [*opts, "MODEL.WEIGHTS", "w.pth"]), False)
    (tmp_path / "model_0000002.pth").touch()
    check_evaluation(load_config(QUICKSTART, opts), True)
    with pytest.raises(UsageError, match="would evaluate random weights"):
        check_evaluation(load_config(QUICKSTART, opts), False)
    with pytest.raises(UsageError, match="^The evaluation has no data set, .* or add --test DATA"):
        check_evaluation(load_config(QUICKSTART, ["MODEL.WEIGHTS", "w.pth"]), False)


@pytest.mark.parametrize(
    "opts, message",
    [
        (["MODEL.RESNETS.DEPTH", 18, "MODEL.RESNETS.RES2_OUT_CHANNELS", 256], "DEPTH 18 needs .*RES2_OUT_CHANNELS 64 "),
        (
            ["MODEL.RESNETS.DEPTH", 34, "MODEL.RESNETS.RES5_DILATION", 2],
            "DEPTH 34 needs .*RES5_DILATION 1 ",
        ),
        (["MODEL.RESNETS.DEPTH", 20], "DEPTH is '20'; it must be 18, 34, 50, 101 or 152"),
        (["MODEL.BACKBONE.NAME", "build_resnet_deeplab_backbone"], "DEPTH is '18'; it must be 50, 101 or 152"),
    ],
)
def test_resnets_that_cannot_be(opts, message):
    """quickstart.yaml is a ResNet-18."""
    check_resnet(load_config(QUICKSTART, []))
    check_resnet(load_config(QUICKSTART, ["MODEL.RESNETS.DEPTH", 50, "MODEL.RESNETS.RES5_DILATION", 2]))
    with pytest.raises(UsageError, match=message):
        check_resnet(load_config(QUICKSTART, opts))


def test_batch_norm_of_a_single_value(monkeypatch):
    def check(*opts):
        cfg = load_config(QUICKSTART, ["SOLVER.IMS_PER_BATCH", 1, "INPUT.PIXPRO.CROP_SIZE", 64, *opts])
        resolve_sync_bn(cfg)
        check_norm_inputs(cfg, {"p5": ShapeSpec(stride=32), "p6": ShapeSpec(stride=64)})

    with pytest.raises(UsageError, match="p6 has one pixel .*CROP_SIZE, which is 64, above 64, or SOLVER"):
        check()
    with pytest.raises(UsageError, match="p6 has one pixel"):
        check("SOLVER.IMS_PER_BATCH", 4, "SOLVER.ACCUMULATION_STEPS", 4)
    check("SOLVER.IMS_PER_BATCH", 2)
    check("INPUT.PIXPRO.CROP_SIZE", 128)
    other = ["MODEL.PIXPRO.NORM", "GN", "MODEL.RESNETS.NORM", "GN", "MODEL.REGNETS.NORM", "GN"]
    check(*other)
    timm = [*other, "MODEL.BACKBONE.NAME", "build_timm_fpn_backbone"]
    check(*timm, "MODEL.TIMM.NORM", "FrozenBN")
    with pytest.raises(UsageError, match="p6 has one pixel"):
        check(*timm)
    monkeypatch.setattr(comm, "get_world_size", lambda: 2)
    check("SOLVER.IMS_PER_BATCH", 2)  # norms of both processes together


def test_batch_must_divide_among_the_processes(monkeypatch):
    monkeypatch.setattr(comm, "get_world_size", lambda: 2)
    with pytest.raises(UsageError, match="IMS_PER_BATCH is 3.*multiple of the 2 processes"):
        check_batch(load_config(QUICKSTART, ["SOLVER.IMS_PER_BATCH", 3]))
    with pytest.raises(UsageError, match="ACCUMULATION_STEPS is 3; it must divide the 4 images of each process"):
        check_batch(load_config(QUICKSTART, ["SOLVER.IMS_PER_BATCH", 8, "SOLVER.ACCUMULATION_STEPS", 3]))


def test_the_output_folder_is_made_or_refused(tmp_path):
    check_output_dir(load_config(QUICKSTART, ["OUTPUT_DIR", str(tmp_path / "a" / "b")]))
    assert not list((tmp_path / "a" / "b").iterdir())
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="OUTPUT_DIR '.*file' cannot be written to"):
        check_output_dir(load_config(QUICKSTART, ["OUTPUT_DIR", str(tmp_path / "file")]))
