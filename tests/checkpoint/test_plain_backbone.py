"""The network of torchvision or timm that a run leaves: what they load, and which backbones have none."""

from dataclasses import replace

import pytest
import timm
import timm_helpers
import torch
import torchvision
from checkpoint_helpers import build_with_statistics
from safetensors.torch import load_file
from torch import nn

import configs
from pixpro_d2.checkpoint.convention import IMAGENET, MSRA, TORCHVISION, InputConvention
from pixpro_d2.checkpoint.formats import recognise
from pixpro_d2.checkpoint.plain_backbone import FILE, TIMM_FILE, write_plain_backbone
from pixpro_d2.checkpoint.reading import read_checkpoint
from pixpro_d2.checkpoint.timm_networks import random_parts
from pixpro_d2.modeling.timm_backbone import TimmBackbone

DETECTOR, SEGMENTATION = "voc/faster_rcnn_R_18_FPN_small.yaml", "voc/fcn_R_50_30k.yaml"


def model_of(*opts, config="pretrain/quickstart.yaml"):
    return build_with_statistics(configs.tiny(*opts, config=config))


@pytest.mark.parametrize(
    "opts, config",
    [
        ([], "pretrain/quickstart.yaml"),
        (configs.C5, "pretrain/quickstart.yaml"),
        (["MODEL.RESNETS.NORM", "FrozenBN"], DETECTOR),
    ],
    ids=["pyramid", "C5", "frozen norms"],
)
@torch.no_grad()
def test_torchvision_loads_it_strictly_and_gives_the_same_features(opts, config, tmp_path):
    model = model_of(*opts, config=config)
    sentence = write_plain_backbone(model, TORCHVISION, str(tmp_path))
    assert sentence == f"The backbone as torchvision's resnet18: {tmp_path / FILE}"
    theirs = torchvision.models.resnet18()
    theirs.fc = nn.Identity()
    theirs.load_state_dict(load_file(tmp_path / FILE), strict=True)
    trunk = getattr(model.backbone, "bottom_up", model.backbone)
    x = torch.randn(2, 3, 64, 64)
    expected = trunk(x)["res5"].mean(dim=(2, 3))
    assert expected.std() > 1e-3
    torch.testing.assert_close(theirs.eval()(x), expected)


def test_images_of_a_range_are_to_be_scaled(tmp_path):
    deep = replace(TORCHVISION, pixel_range=(0.0, 4095.0))
    sentence = write_plain_backbone(model_of(), deep, str(tmp_path))
    scaled = "scaled by INPUT.PIXEL_RANGE, so that 0 becomes 0 and 4095 becomes 1 before mean and standard deviation"
    assert sentence == f"The backbone as torchvision's resnet18: {tmp_path / FILE}; it takes images {scaled}"


def test_the_whole_trunk_of_a_c4_detector(tmp_path):
    opts = ["MODEL.RESNETS.NORM", "BN", "MODEL.RPN.HEAD_NAME", "StandardRPNHead"]
    model = model_of(*opts, config="voc/faster_rcnn_R_50_C4_24k.yaml")
    assert "resnet50" in write_plain_backbone(model, TORCHVISION, str(tmp_path))
    last = load_file(tmp_path / FILE)["layer4.2.conv3.weight"]
    assert torch.equal(last, model.roi_heads.res5[2].conv3.weight)


def test_the_file_is_a_checkpoint_with_its_input(tmp_path):
    write_plain_backbone(model_of(), TORCHVISION, str(tmp_path))
    source = recognise(read_checkpoint(str(tmp_path / FILE)), FILE)
    assert source.convention == TORCHVISION and "backbone.res5.1.conv2.weight" in source.state


@pytest.mark.parametrize(
    "opts, config, convention",
    [
        ([], "pretrain/quickstart.yaml", MSRA),
        (["MODEL.RESNETS.NORM", "GN"], "pretrain/quickstart.yaml", TORCHVISION),
        (["MODEL.RESNETS.DEPTH", 50, *configs.NARROW], "pretrain/quickstart.yaml", TORCHVISION),
        (configs.REGNET_FPN, "pretrain/quickstart.yaml", TORCHVISION),
        ([], SEGMENTATION, TORCHVISION),
    ],
    ids=["BGR", "group norm", "width", "RegNet", "dilation"],
)
def test_backbones_without_a_twin(opts, config, convention, tmp_path):
    for file in (FILE, TIMM_FILE):
        (tmp_path / file).write_bytes(b"of an earlier run")
    assert write_plain_backbone(model_of(*opts, config=config), convention, str(tmp_path)) is None
    assert not list(tmp_path.iterdir())


def test_a_model_of_another_form_has_no_twin(tmp_path):
    """Also one that has the names of torchvision, with parts that it lacks."""
    other = nn.ModuleDict({"net": nn.Linear(2, 2)})
    attention = nn.Module()
    attention.backbone = torchvision.models.resnet18()
    attention.backbone.layer1[0].se = nn.Linear(2, 2)
    assert [write_plain_backbone(model, TORCHVISION, str(tmp_path)) for model in (other, attention)] == [None, None]


MAPS = ", and read its maps by forward_intermediates(images, intermediates_only=True), because the parts behind them"


@pytest.mark.parametrize(
    ("name", "advice"),
    [
        ("convnext_atto", ""),
        ("mobilenetv3_small_050", f"{MAPS} stay random (conv_head)"),
        ("efficientnet_b0", f"{MAPS} stay random (conv_head, bn2)"),
    ],
)
@torch.no_grad()
def test_timm_loads_its_networks_and_gives_the_same_features(name, advice, tmp_path):
    (tmp_path / FILE).write_bytes(b"of an earlier run")
    model = torch.nn.Module()
    model.backbone = timm_helpers.randomize(TimmBackbone(name)).eval()
    sentence = write_plain_backbone(model, IMAGENET, str(tmp_path))
    call = f"timm.create_model('{name}', num_classes=0).load_state_dict(safetensors.torch.load_file('{TIMM_FILE}'), "
    assert sentence == f"The backbone as timm's {name}: {tmp_path / TIMM_FILE}; load it by {call}strict=False){advice}"
    assert [path.name for path in tmp_path.iterdir()] == [TIMM_FILE]
    theirs = timm.create_model(name, num_classes=0).eval()
    missing, unexpected = theirs.load_state_dict(load_file(tmp_path / TIMM_FILE), strict=False)
    assert not unexpected and all(key.startswith(("head.norm.", "conv_head.", "bn2.")) for key in missing)
    x = torch.randn(1, 3, 64, 64)
    last = theirs.forward_intermediates(x, norm=False, intermediates_only=True)[-1]
    torch.testing.assert_close(model.backbone(x)["res5"], last)
    source = recognise(read_checkpoint(str(tmp_path / TIMM_FILE)), TIMM_FILE, model.backbone.net)
    assert source.convention == IMAGENET


def test_a_stage_behind_the_features_is_a_random_part():
    """As of a run on res4 alone."""
    network = timm.create_model("convnext_atto", num_classes=0)
    state = {name: value for name, value in network.state_dict().items() if not name.startswith(("stages.3", "head"))}
    assert random_parts(network, state) == ["stages.3", "head"]


@pytest.mark.parametrize(
    "convention, options",
    [(MSRA, {}), (InputConvention("RGB", (127.5,) * 3, (127.5,) * 3), {}), (IMAGENET, {"output_stride": 16})],
    ids=["BGR", "other input", "dilation"],
)
def test_networks_of_timm_without_a_twin(convention, options, tmp_path):
    model = torch.nn.Module()
    model.backbone = TimmBackbone("convnext_atto", **options)
    (tmp_path / TIMM_FILE).write_bytes(b"of an earlier run")
    assert write_plain_backbone(model, convention, str(tmp_path)) is None
    assert not list(tmp_path.iterdir())
