"""Weights of one trunk in a model of another: what is an error, and what it says."""

from functools import cache

import pytest
import torch
from detectron2.modeling import build_backbone

import configs
from pixpro_d2.checkpoint.coverage import check_trunk
from pixpro_d2.checkpoint.formats import Source
from pixpro_d2.checkpoint.transfer import fit
from pixpro_d2.utils.errors import UsageError

STAGES = ["MODEL.RESNETS.OUT_FEATURES", ["res2", "res3", "res4", "res5"]]
NETWORKS = {
    "resnet": ["MODEL.BACKBONE.NAME", "build_resnet_backbone"],
    "fpn": [],
    "regnet": ["MODEL.BACKBONE.NAME", "build_regnet_backbone"],
}
R18 = "resnet", "MODEL.RESNETS.DEPTH", 18, "MODEL.RESNETS.RES2_OUT_CHANNELS", 64
R34 = "resnet", "MODEL.RESNETS.DEPTH", 34, "MODEL.RESNETS.RES2_OUT_CHANNELS", 64
R50 = "resnet", "MODEL.RESNETS.DEPTH", 50, "MODEL.RESNETS.RES2_OUT_CHANNELS", 256
R101 = "resnet", "MODEL.RESNETS.DEPTH", 101, "MODEL.RESNETS.RES2_OUT_CHANNELS", 256
REGNET = "regnet", "MODEL.REGNETS.DEPTH", 16
DEEPER = "regnet", "MODEL.REGNETS.DEPTH", 22
GN, NO_NORM = ("MODEL.RESNETS.NORM", "GN"), ("MODEL.RESNETS.NORM", "")


@cache
def state(network, *opts):
    """State dict, without values, of a model with this backbone."""
    with torch.device("meta"):
        backbone = build_backbone(configs.tiny(*STAGES, *NETWORKS[network], *opts))
    return {f"backbone.{name}": value for name, value in backbone.state_dict().items()}


def check(theirs, ours, allow_partial=False, frozen=False, folded_norms=False):
    source = Source("a format", theirs, folded_norms=folded_norms)
    check_trunk("w.pth", source, ours, fit(theirs, ours), allow_partial, frozen)


def only(stages, tensors):
    return {name: value for name, value in tensors.items() if name.split(".")[1] in stages}


@pytest.mark.parametrize(
    "theirs, ours, message",
    [
        (R101, R50, "is a ResNet-101 and the model a ResNet-50: set MODEL.RESNETS.DEPTH 101[. ]"),
        (R50, R101, "is a ResNet-50 and the model a ResNet-101: set MODEL.RESNETS.DEPTH 50[. ]"),
        (R34, R18, "is a ResNet-34 and the model a ResNet-18: set MODEL.RESNETS.DEPTH 34[. ]"),
        (R50, R34, "is a ResNet-50 .* ResNet-34: set MODEL.RESNETS.DEPTH 50 MODEL.RESNETS.RES2_OUT_CHANNELS 256[. ]"),
        (R50, (*R50[:-1], 128), "covers only .*res2.0.shortcut.weight has another shape there"),
        (R50, (*R50, "MODEL.RESNETS.WIDTH_PER_GROUP", 32), "covers only .*conv1.weight has another shape there"),
        (R50, (*R50, "MODEL.RESNETS.NUM_GROUPS", 2), "covers only .*has another shape there"),
        (DEEPER, REGNET, r"has \d+ blocks in stage s\d and the model \d+: use the depth and options"),
        (REGNET, DEEPER, r"has \d+ blocks in stage s\d and the model \d+: use the depth and options"),
        (R18, (*R18, *GN), r"has 40 weights .* no place for \(backbone.stem.conv1.norm.running_mean is the first\)"),
        ((*R18, *GN), R18, r"covers only 60 of the backbone's 100 .*norm.running_mean is not in it"),
        (R18, (*R18, *NO_NORM), r"has .* no place for \(backbone.stem.conv1.norm.weight is the first\)"),
        ((*R18, *NO_NORM), R18, r"covers only .*stem.conv1.norm.weight is not in it"),
        ((*REGNET, "MODEL.REGNETS.SE_RATIO", 0.25), REGNET, r"has .* no place for \(backbone.s1.b1.f.se.f_ex.0.weight"),
    ],
)
def test_another_trunk_is_an_error_unless_a_part_is_allowed(theirs, ours, message):
    theirs, ours = state(*theirs), state(*ours)
    with pytest.raises(UsageError, match=rf"MODEL.WEIGHTS w.pth {message}"):
        check(theirs, ours)
    check(theirs, ours, allow_partial=True)
    with pytest.raises(UsageError, match="the backbone is frozen and must be covered"):
        check(theirs, ours, allow_partial=True, frozen=True)


@pytest.mark.parametrize("form", ["fpn", "C4"])
def test_deeper_weights_are_found_below_a_pyramid_and_in_a_c4_detector(form):
    if form == "fpn":
        ours, what = state("fpn", *R50[1:]), "a ResNet-101 and the model a ResNet-50"
    else:
        renamed = ((name.replace("backbone.res5", "roi_heads.res5"), value) for name, value in state(*R50).items())
        ours, what = {**dict(renamed), "roi_heads.res5.norm.weight": torch.zeros(1)}, "a ResNet-101"
    check(state(*R50), ours)
    with pytest.raises(UsageError, match=f"{what}.*set MODEL.RESNETS.DEPTH 101"):
        check(state(*R101), ours)


def test_another_depth_and_another_width_of_the_pyramid_are_named_together():
    theirs = state("fpn", *R101[1:])
    ours = state("fpn", *R50[1:], "MODEL.FPN.OUT_CHANNELS", 2 * theirs["backbone.fpn_output3.weight"].shape[0])
    with pytest.raises(UsageError, match=r"set MODEL.RESNETS.DEPTH 101 MODEL.FPN.OUT_CHANNELS \d+"):
        check(theirs, ours)
    with pytest.raises(UsageError, match="set MODEL.RESNETS.DEPTH 101[. ](?!MODEL.FPN)"):
        check(theirs, state("fpn", *R50[1:]))


@pytest.mark.parametrize("ours", [["stem", "res2", "res3", "res4"], ["stem", "res2"]])
def test_stages_that_the_model_does_not_have_are_no_mistake(ours):
    check(state(*R50), only(ours, state(*R50)))


def test_stages_that_the_file_does_not_have_are_a_mistake():
    with pytest.raises(UsageError, match="covers only .*res5.0.shortcut.weight is not in it"):
        check(only(["stem", "res2", "res3", "res4"], state(*R50)), state(*R50))


def test_heads_pyramids_and_counters_without_a_place_are_no_mistake():
    more = [
        "stem.fc.weight",
        "backbone.fc.weight",
        "backbone.fpn_lateral2.weight",
        "target_backbone.res2.9.conv1.weight",
    ]
    check({**state(*R18), **dict.fromkeys(more, torch.zeros(1))}, state(*R18, "MODEL.RESNETS.NORM", "FrozenBN"))


def test_folded_norms_need_no_statistics():
    folded = {name: value for name, value in state(*R18).items() if "running" not in name}
    check(folded, state(*R18), folded_norms=True)
    with pytest.raises(UsageError, match="running_mean is not in it"):
        check(folded, state(*R18))
