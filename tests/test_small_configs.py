"""The small configs by which a checkpoint is tried out, and the control that is trained with labels."""

import cli
import pytest
import torch
from data_helpers import logged
from downstream import CLASSES, PNG, RCNN, options
from rendering import render_once

import configs

pytestmark = pytest.mark.slow

CONTROL = "configs/classification/resnet_R_18_small.yaml"
TASKS = {
    "configs/voc/faster_rcnn_R_18_FPN_small.yaml": (
        "bbox/AP", ("voc:{}@train", "voc:{}@test"), "MODEL.ROI_HEADS.NUM_CLASSES", 5, *RCNN,
    ),
    "configs/semseg/fpn_R_18_small.yaml": ("sem_seg/mIoU", *PNG),
}  # fmt: skip

scenes = render_once(train=4, test=2, size=96, layouts=("voc", "classes"))


@pytest.fixture(scope="module")
def control(scenes):
    """Checkpoint of the control after two iterations."""
    folder = scenes.parent / "control"
    args = options(scenes, CLASSES[0], *CLASSES[1:], "SOLVER.BASE_LR", 0.1, "SOLVER.AMP.ENABLED", False)
    cli.run_here("--config-file", CONTROL, *args, "OUTPUT_DIR", folder)
    return folder / "model_final.pth"


@pytest.fixture(scope="module")
def pixpro(scenes):
    """Checkpoint of the pre-training after an iteration."""
    folder = scenes.parent / "pixpro"
    data = ["DATASETS.TRAIN", f"('images:{scenes}/JPEGImages',)", "OUTPUT_DIR", folder, *configs.TINY]
    small = ["MODEL.FPN.OUT_CHANNELS", 128, "SOLVER.MAX_ITER", 1]
    cli.run_here("--config-file", "configs/pretrain/quickstart.yaml", *data, *small)
    return folder / "model_final.pth"


def test_the_control_trains_the_whole_network_and_classifies(scenes, control, tmp_path):
    trained = torch.load(control, weights_only=True)["model"]
    untrained = options(scenes, CLASSES[0], *CLASSES[1:], "SOLVER.MAX_ITER", 1, "SOLVER.BASE_LR", 1e-12)
    cli.run_here("--config-file", CONTROL, *untrained, "OUTPUT_DIR", tmp_path)
    before = torch.load(tmp_path / "model_final.pth", weights_only=True)["model"]
    weights = [name for name in trained if name.startswith("backbone.") and name.endswith(".weight")]
    assert len(weights) == 40 and all(not torch.equal(trained[name], before[name]) for name in weights)
    assert 0 <= cli.metrics(control.parent)[-1]["classification/linear_top1"] <= 100


@pytest.mark.parametrize("start", ["control", "pixpro"])
@pytest.mark.parametrize("config", TASKS)
def test_a_checkpoint_is_fine_tuned(config, start, scenes, tmp_path, request):
    metric, names, *opts = TASKS[config]
    args = ["--config-file", config, *options(scenes, names, *opts), "OUTPUT_DIR", tmp_path]
    with logged("pixpro_d2.checkpoint") as lines:
        cli.run_here(*args, "MODEL.WEIGHTS", request.getfixturevalue(start))
    (said,) = [line for line in lines if "60 of 60 weights" in line]
    assert ("pyramid 18 of 18" in said) == (start == "pixpro")  # the control has no pyramid to hand on
    assert 0 <= cli.metrics(tmp_path)[-1][metric] <= 100
