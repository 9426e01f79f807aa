"""Names between torchvision, detectron2 and the official PixPro code."""

import pytest
import torchvision
from detectron2.config import get_cfg
from detectron2.layers import ShapeSpec
from detectron2.modeling import build_resnet_backbone

import configs
from pixpro_d2.checkpoint.names import fpn as fpn_names
from pixpro_d2.checkpoint.names import heads as head_names
from pixpro_d2.checkpoint.names import resnet as resnet_names
from pixpro_d2.modeling.pretrain.pixpro import PixPro
from pixpro_d2.utils.errors import UsageError


def detectron2_resnet(depth):
    cfg = get_cfg()
    cfg.MODEL.RESNETS.DEPTH = depth
    cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 64 if depth < 50 else 256
    cfg.MODEL.RESNETS.NORM = "BN"
    cfg.MODEL.RESNETS.OUT_FEATURES = ["res5"]
    cfg.MODEL.BACKBONE.FREEZE_AT = 0
    return build_resnet_backbone(cfg, ShapeSpec(channels=3))


@pytest.mark.parametrize("depth, count", [(18, 120), (50, 318)])
def test_resnet_names_are_one_to_one_with_equal_shapes(depth, count):
    theirs = getattr(torchvision.models, f"resnet{depth}")().state_dict()
    ours = detectron2_resnet(depth).state_dict()
    renamed = {resnet_names.to_detectron2(name): name for name in theirs if not name.startswith("fc.")}
    assert set(renamed) == set(ours) and len(ours) == count
    for name, their_name in renamed.items():
        assert theirs[their_name].shape == ours[name].shape
        assert resnet_names.to_torchvision(name) == their_name


@pytest.mark.parametrize(
    "name, expected",
    [
        ("conv1.weight", "stem.conv1.weight"),
        ("bn1.running_var", "stem.conv1.norm.running_var"),
        ("layer1.0.bn3.bias", "res2.0.conv3.norm.bias"),
        ("layer4.12.downsample.0.weight", "res5.12.shortcut.weight"),
        ("layer2.0.downsample.1.weight", "res3.0.shortcut.norm.weight"),
        *[
            (name, None)
            for name in ("fc.weight", "conv1.0.weight", "conv2.weight", "bn2.bias", "layer5.0.conv1.weight")
        ],
        *[(name, None) for name in ("layer1.0.se.fc1.weight", "layer1.0.downsample.2.bias", "downsample.0.weight")],
        *[(name, None) for name in ("layer1.0.conv4.weight", "layer1.0.conv1.norm.weight", "x.conv1.weight")],
    ],
)
def test_to_detectron2(name, expected):
    assert resnet_names.to_detectron2(name) == expected


@pytest.mark.parametrize(
    "name", ["stem.fc.weight", "stem.conv2.weight", "res2.0.conv2_offset.weight", "res6.0.conv1.weight", "conv1.weight"]
)
def test_names_that_torchvision_does_not_have(name):
    assert resnet_names.to_torchvision(name) is None


def test_sequential_names_are_those_of_the_children():
    model = torchvision.models.resnet18()
    children = dict(enumerate(model.children()))
    for name, index in (("conv1", 0), ("bn1", 1), ("layer1", 4), ("layer4", 7)):
        assert children[index] is getattr(model, name)
        assert resnet_names.from_sequential(f"{index}.x.weight") == f"{name}.x.weight"
    assert resnet_names.from_sequential("9.weight") is None and resnet_names.from_sequential("fc.weight") is None


def test_fpn_names_and_back():
    expected = {
        "fpn_lateral3.weight": "inner_blocks.0.0.weight",
        "fpn_lateral5.bias": "inner_blocks.2.0.bias",
        "fpn_output4.norm.running_mean": "layer_blocks.1.1.running_mean",
        "top_block.p6.weight": "extra_blocks.p6.weight",
    }
    assert fpn_names.to_torchvision(expected) == expected
    back = fpn_names.to_detectron2([*expected.values(), "body.conv1.weight"])
    assert back == {theirs: ours for ours, theirs in expected.items()}
    assert all(map(fpn_names.is_fpn, expected)) and not fpn_names.is_fpn("res5.0.conv1.weight")


def test_fpn_names_of_torchvision_before_version_013():
    names = {"inner_blocks.0.weight": "fpn_lateral4.weight", "layer_blocks.1.bias": "fpn_output5.bias"}
    assert fpn_names.to_detectron2(names) == names


@pytest.mark.parametrize("stages", [(2, 3, 4), (3, 5), ()])
def test_pyramids_that_torchvision_does_not_have(stages):
    with pytest.raises(UsageError, match="pyramid stands on the stages"):
        fpn_names.to_torchvision([f"fpn_output{stage}.weight" for stage in stages])


def official_heads(*names):
    """Names of official heads, each with the 9 tensors of convolution, norm, convolution."""
    norm = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    layers = {"linear1": ("weight", "bias"), "bn1": norm, "linear2": ("weight", "bias")}
    return {f"{name}.{layer}.{leaf}" for name in names for layer, leaves in layers.items() for leaf in leaves}


@pytest.mark.parametrize("layers, transform", [(1, {"value_transform.weight", "value_transform.bias"}), (2, None)])
def test_head_names_are_those_of_a_model_with_everything(layers, transform):
    cfg = configs.tiny(
        *("MODEL.BACKBONE.NAME", "build_resnet_backbone", "MODEL.RESNETS.OUT_FEATURES", ["res5"]),
        *("MODEL.PIXPRO.IN_FEATURES", ["res5"], "MODEL.PIXPRO.INSTANCE.WEIGHT", 1.0),
        *("MODEL.PIXPRO.PPM.NUM_LAYERS", layers),
    )
    ours = {name for name in PixPro(cfg).state_dict() if not name.startswith(("backbone.", "target_backbone."))}
    expected = official_heads("projector", "projector_k", "projector_instance", "projector_instance_k", "predictor")
    expected |= official_heads("value_transform") if transform is None else transform
    renamed = head_names.to_official(ours)
    assert set(renamed) == ours and set(renamed.values()) == expected
    assert {name: head_names.from_official(theirs) for name, theirs in renamed.items()} == {n: n for n in ours}


def test_one_head_that_is_not_shared_is_the_official_one():
    names = ["projector.heads.res5.0.weight", "ppm.heads.res5.value_transform.0.bias", "pixel_mean"]
    expected = {names[0]: "projector.linear1.weight", names[1]: "value_transform.bias"}
    assert head_names.to_official(names) == expected


def test_heads_of_several_levels_have_no_official_names():
    names = ["projector.heads.p3.0.weight", "projector.heads.p4.0.weight"]
    with pytest.raises(UsageError, match="projector for each of p3, p4"):
        head_names.to_official(names)
    assert head_names.from_official("encoder.conv1.weight") is None


def test_heads_with_a_third_layer_have_no_official_names():
    names = {f"{branch}.heads.shared.{layer}.weight" for branch in ("projector", "target_projector") for layer in "036"}
    assert head_names.to_official(names) == {} and head_names.has_heads(names)
