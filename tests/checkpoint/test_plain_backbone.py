"""The ResNet of torchvision that a run leaves: what torchvision loads, and which backbones have none."""

import pytest
import torch
import torchvision
from checkpoint_helpers import build_with_statistics
from safetensors.torch import load_file
from torch import nn

import configs
from pixpro_d2.checkpoint.convention import MSRA, TORCHVISION
from pixpro_d2.checkpoint.formats import recognise
from pixpro_d2.checkpoint.plain_backbone import FILE, write_plain_backbone
from pixpro_d2.checkpoint.reading import read_checkpoint

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
    assert write_plain_backbone(model, TORCHVISION, str(tmp_path)) == "resnet18"
    theirs = torchvision.models.resnet18()
    theirs.fc = nn.Identity()
    theirs.load_state_dict(load_file(tmp_path / FILE), strict=True)
    trunk = getattr(model.backbone, "bottom_up", model.backbone)
    x = torch.randn(2, 3, 64, 64)
    expected = trunk(x)["res5"].mean(dim=(2, 3))
    assert expected.std() > 1e-3
    torch.testing.assert_close(theirs.eval()(x), expected)


def test_the_whole_trunk_of_a_c4_detector(tmp_path):
    opts = ["MODEL.RESNETS.NORM", "BN", "MODEL.RPN.HEAD_NAME", "StandardRPNHead"]
    model = model_of(*opts, config="voc/faster_rcnn_R_50_C4_24k.yaml")
    assert write_plain_backbone(model, TORCHVISION, str(tmp_path)) == "resnet50"
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
    (tmp_path / FILE).write_bytes(b"of an earlier run")
    assert write_plain_backbone(model_of(*opts, config=config), convention, str(tmp_path)) is None
    assert not list(tmp_path.iterdir())


def test_a_model_of_another_form_has_no_twin(tmp_path):
    """Also one that has the names of torchvision, with parts that it lacks."""
    other = nn.ModuleDict({"net": nn.Linear(2, 2)})
    attention = nn.Module()
    attention.backbone = torchvision.models.resnet18()
    attention.backbone.layer1[0].se = nn.Linear(2, 2)
    assert [write_plain_backbone(model, TORCHVISION, str(tmp_path)) for model in (other, attention)] == [None, None]
