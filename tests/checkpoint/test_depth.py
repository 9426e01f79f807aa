"""The depth and width of a ResNet from the names and shapes of its tensors."""

import pytest
import torch
import torchvision

from pixpro_d2.checkpoint.depth import block_counts, input_channels, resnet_options, stage_of
from pixpro_d2.checkpoint.formats import recognise


@pytest.mark.parametrize(
    "name, stage",
    [
        ("backbone.stem.conv1.weight", "stem"),
        ("backbone.bottom_up.res4.22.conv3.norm.bias", "res4"),
        ("roi_heads.res5.0.conv1.weight", "res5"),
        ("s3.b12.f.a.weight", "s3"),
        ("roi_heads.res5.norm.weight", None),
        ("stem.fc.weight", None),
        ("backbone.fc.weight", None),
        ("backbone.fpn_lateral3.weight", None),
        ("target_backbone.res4.0.conv1.weight", None),
        ("roi_heads.box_head.fc1.weight", None),
    ],
)
def test_stages(name, stage):
    assert stage_of(name) == stage


def test_blocks_are_counted_once():
    names = [
        "res2.0.conv1.weight",
        "res2.0.conv2.weight",
        "res2.1.conv1.weight",
        "s1.b1.f.a.weight",
        "stem.conv1.weight",
    ]
    assert block_counts(names) == {"res2": 2, "s1": 1}


@pytest.mark.parametrize("depth", [18, 34, 50, 101, 152])
def test_torchvisions_resnets(depth):
    with torch.device("meta"):
        state = getattr(torchvision.models, f"resnet{depth}")().state_dict()
    width = 64 if depth < 50 else 256
    expected = {"MODEL.RESNETS.DEPTH": depth, "MODEL.RESNETS.RES2_OUT_CHANNELS": width}
    assert resnet_options(recognise(state, "w.pth").state) == expected


def test_of_two_stages_several_depths_are_possible():
    names = [f"res{s}.{b}.conv{c}.weight" for s, n in ((2, 3), (3, 4)) for b in range(n) for c in (1, 2, 3)]
    three = [*names, *(f"res4.{b}.conv3.weight" for b in range(23))]
    assert resnet_options(dict.fromkeys(names, torch.zeros(256))) == {}
    assert resnet_options(dict.fromkeys(three, torch.zeros(256)))["MODEL.RESNETS.DEPTH"] == 101
    assert resnet_options(dict.fromkeys([*names, "res2.3.conv3.weight"], torch.zeros(256))) == {}
    assert resnet_options({"a.b": torch.zeros(1)}) == {}


@pytest.mark.parametrize(
    "name", ["backbone.bottom_up.stem.conv1.weight", "backbone.stem.conv.weight", "stem.conv1.weight"]
)
def test_channels_of_the_images(name):
    assert input_channels({"target_backbone.stem.conv1.weight": torch.zeros(1), name: torch.zeros(8, 4, 7, 7)}) == 4
    assert input_channels({"backbone.res2.0.conv1.weight": torch.zeros(8, 4, 7, 7), name: torch.zeros(1)}) is None
