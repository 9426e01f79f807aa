"""What detectron2 refuses to build is told in one sentence; an error of this project's own code is not hidden."""

import pytest

import configs
from pixpro_d2.engine import Trainer
from pixpro_d2.engine.building import refusals_explained
from pixpro_d2.engine.configuration.configure import load_config, resolve_sync_bn
from pixpro_d2.solver.schedule import scaled_lr
from pixpro_d2.utils.errors import UsageError, check_choice

SMALL = str(configs.CONFIGS / "voc/faster_rcnn_R_18_FPN_small.yaml")


@pytest.mark.parametrize(
    "key, value, words",
    [
        ("MODEL.ANCHOR_GENERATOR.SIZES", "[[16], [32]]", "Got sizes of length 2 in anchor generator, but the number"),
        ("MODEL.ROI_HEADS.IN_FEATURES", "['p3', 'p7']", "KeyError in .*: p7"),
        ("MODEL.RESNETS.OUT_FEATURES", "['res4', 'res5']", "KeyError in fpn.py: res3"),
        ("MODEL.RPN.IOU_THRESHOLDS", "[0.7, 0.3]", "AssertionError in matcher.py: assert "),
        ("MODEL.FPN.NORM", "GN", "num_channels .20. must be divisible by num_groups"),
    ],
)
def test_a_model_that_cannot_be_built(key, value, words):
    more = ["MODEL.FPN.OUT_CHANNELS", "20"] if key == "MODEL.FPN.NORM" else []
    cfg = load_config(SMALL, ["MODEL.DEVICE", "cpu", key, value, *more])
    resolve_sync_bn(cfg)
    with pytest.raises(UsageError, match=rf"^The model cannot be built from the keys below MODEL \(.*{words}.*\): "):
        Trainer.build_model(cfg)


def test_other_errors_pass():
    with pytest.raises(UsageError, match="^KEY is '1'; it must be 2.$"), refusals_explained("The model", "MODEL"):
        check_choice("KEY", 1, [2])
    with pytest.raises(TypeError), refusals_explained("The schedule", "SOLVER"):
        scaled_lr("a", 1, None, "linear")
