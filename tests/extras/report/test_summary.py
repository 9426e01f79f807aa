"""A run in words and numbers."""

import copy

from report_helpers import CONFIG, healthy_lines, write_run

from pixpro_d2.extras.report.runs import read_run
from pixpro_d2.extras.report.summary import describe, facts, health, spread_std


def run_of(tmp_path, lines=(), **keys):
    """A run with config keys, __ for the dot."""
    config = copy.deepcopy(CONFIG)
    for path, value in keys.items():
        *parts, last = path.split("__")
        node = config
        for part in parts:
            node = node.setdefault(part, {})
        node[last] = value
    return read_run(write_run(tmp_path / str(len(list(tmp_path.iterdir()))), lines, config), "run")


def test_what_was_run(tmp_path):
    assert describe(run_of(tmp_path)) == "PixPro pre-training at p3, p4 of ResNet-18 FPN on images:photos."
    assert describe(run_of(tmp_path, MODEL__PIXPRO__PPM__ENABLED=False)).startswith("PixPro without PPM pre-training")
    instance = {"MODEL__PIXPRO__INSTANCE__WEIGHT": 1.0, "MODEL__PIXPRO__INSTANCE__LOSS": "byol"}
    assert "at p3, p4 and instance loss (byol) of" in describe(run_of(tmp_path, **instance))
    alone = run_of(tmp_path, MODEL__PIXPRO__IN_FEATURES=[], **instance)
    assert describe(alone).startswith("Pre-training by the instance loss (byol) alone of")
    assert describe(run_of(tmp_path, MODEL__PIXPRO={})) == "PixPro pre-training of ResNet-18 FPN on images:photos."
    unknown = run_of(tmp_path, MODEL__PIXPRO={"INSTANCE": {"WEIGHT": 1.0, "LOSS": "byol"}})
    assert describe(unknown).startswith("PixPro pre-training and instance loss (byol) of")
    assert "across 6 frames of video" in describe(run_of(tmp_path, INPUT__PIXPRO__N_FRAMES=6))


def test_what_was_trained_downstream(tmp_path):
    detector = {"MODEL__META_ARCHITECTURE": "GeneralizedRCNN", "MODEL__MASK_ON": True, "MODEL__WEIGHTS": "a/model.pth"}
    run = run_of(tmp_path, **detector)
    assert describe(run) == "Mask R-CNN with ResNet-18 FPN on images:photos, from a/model.pth."
    assert spread_std(run) is None
    fcos = run_of(tmp_path, MODEL__META_ARCHITECTURE="FCOSDetector", MODEL__BACKBONE__NAME="build_regnet_backbone")
    assert describe(fcos) == "FCOS with RegNet on images:photos, from random weights."
    timm = {"MODEL__BACKBONE__NAME": "build_timm_fpn_backbone", "MODEL__TIMM": {"NAME": "convnext_tiny"}}
    assert describe(run_of(tmp_path, **timm)) == "PixPro pre-training at p3, p4 of convnext_tiny FPN on images:photos."


def test_numbers(tmp_path):
    """200 iterations of 0.5 s and 16 images; the log reports 3 skipped steps and 2048 MiB."""
    assert facts(run_of(tmp_path, healthy_lines())) == [
        ("progress", "200 of 200 iterations, finished"),
        ("training time", "0:01:40"),
        ("images/s", "32"),
        ("skipped steps", "3"),
        ("GPU memory", "2.0 GiB"),
    ]


def test_time_and_speed_are_of_means(tmp_path):
    """20 iterations of 2 s, then 180 of 1 s: 220 s for 3200 images, although the median is 0.5 s."""
    run = run_of(tmp_path, healthy_lines(step_time=lambda i: 1.0 if i else 2.0))
    assert facts(run)[1:3] == [("training time", "0:03:40"), ("images/s", "14.5")]
    lines = healthy_lines(step_time=3.0)
    for line in lines[:5]:  # of an older version: 100 iterations of 0.5 s, then 100 of 3 s
        del line["step_time"]
    assert facts(run_of(tmp_path, lines))[1] == ("training time", "0:05:50")


def test_a_finished_run_is_not_early(tmp_path):
    lines = [{"iteration": i, "total_loss": 1.0} for i in (19, 39)]
    assert health(run_of(tmp_path, lines, SOLVER__MAX_ITER=40))[1] == "Too short to judge"
    assert health(run_of(tmp_path, lines, SOLVER__MAX_ITER=41))[1] == "Too early to tell"


def test_health_uses_the_configs_channels(tmp_path):
    """0.1 is 80 % of 1 / sqrt(64), and 6 % of 1 / sqrt(0.36): collapsed."""
    assert health(run_of(tmp_path, healthy_lines()))[1] == "Worth a look"  # because of the skipped steps
    assert health(run_of(tmp_path, healthy_lines(), MODEL__PIXPRO__PROJECTOR__OUT_DIM=0.36))[1] == "Looks unhealthy"
