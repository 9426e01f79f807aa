"""The backbone of a checkpoint as a network of its own: the same features, from images in [0, 1]."""

from dataclasses import replace

import pytest
import timm
import timm_helpers
import torch
import yaml
from checkpoint_helpers import build_with_statistics
from detectron2.modeling import build_backbone
from torch import nn

import configs
from pixpro_d2.checkpoint import PixProCheckpointer
from pixpro_d2.checkpoint.convention import IMAGENET, MSRA, TORCHVISION, InputConvention
from pixpro_d2.checkpoint.conversion import convert
from pixpro_d2.checkpoint.plain_backbone import TIMM_FILE, write_plain_backbone
from pixpro_d2.extras.deployment.network import load_network
from pixpro_d2.utils.errors import UsageError

REGNET = [*configs.REGNET_FPN, "MODEL.PIXPRO.ZERO_INIT_RESIDUAL", False]
NARROW = ["MODEL.RESNETS.DEPTH", 50, *configs.NARROW]
GROUP_NORM = ["MODEL.RESNETS.NORM", "GN", "MODEL.FPN.NORM", "GN"]
RETINANET = "coco/retinanet_R_50_FPN_1x.yaml"
PYRAMID = ["p3", "p4", "p5", "p6"]


def run_of(folder, *opts, config="pretrain/quickstart.yaml", convention=TORCHVISION):
    """(model in eval mode, path of its checkpoint) of a run, without its config."""
    cfg = configs.tiny(*opts, config=config)
    model = build_with_statistics(cfg)
    PixProCheckpointer(model, str(folder), convention=convention).save("model_final", iteration=1)
    return cfg, model, str(folder / "model_final.pth")


@torch.no_grad()
def check(network, backbone, convention=TORCHVISION):
    """Compare a network with the backbone, given images as detectron2 normalises them."""
    images = torch.rand(2, 3, 64, 128)
    pixels = 255 * (images.flip(1) if convention.format == "BGR" else images)
    mean, std = (torch.tensor(x).view(-1, 1, 1) for x in (convention.pixel_mean, convention.pixel_std))
    expected = backbone((pixels - mean) / std)
    found = dict(zip(network.names, network(images)))
    for name, value in expected.items():
        assert value.std() > 0
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-4 * value.abs().max().item())


@pytest.mark.parametrize(
    ("opts", "names"),
    [
        ([], PYRAMID),
        (configs.C5, ["res2", "res3", "res4", "res5"]),
        (NARROW, PYRAMID),
        (REGNET, PYRAMID),
        (GROUP_NORM, PYRAMID),
    ],
    ids=["pyramid", "C5", "narrow", "RegNet", "group norm"],
)
def test_a_run_with_its_config(opts, names, tmp_path):
    cfg, model, path = run_of(tmp_path, *opts)
    (tmp_path / "config.yaml").write_text(cfg.dump())
    network = load_network(path)
    assert network.names == names and not network.training and network.divisor == 32
    check(network, model.backbone)


@pytest.mark.parametrize(
    ("opts", "config", "convention"),
    [
        ([], "pretrain/quickstart.yaml", TORCHVISION),
        (configs.C5, "pretrain/quickstart.yaml", MSRA),
        (NARROW, "pretrain/quickstart.yaml", TORCHVISION),
        ([], RETINANET, TORCHVISION),
    ],
    ids=["pyramid", "BGR", "narrow", "RetinaNet"],
)
def test_a_plain_resnet_without_a_config(opts, config, convention, tmp_path):
    _, model, path = run_of(tmp_path, *opts, config=config, convention=convention)
    check(load_network(path), model.backbone, convention)


def test_branch_and_pyramid_can_be_chosen(tmp_path):
    _, model, path = run_of(tmp_path)
    with torch.no_grad():
        model.target_backbone.bottom_up.stem.conv1.weight.add_(0.1)
    PixProCheckpointer(model, str(tmp_path), convention=TORCHVISION).save("model_final")
    network = load_network(path, branch="target", with_fpn=False)
    assert network.names == ["res3", "res4", "res5"]
    check(network, model.target_backbone.bottom_up)


def test_a_file_without_its_pyramid_beside_the_config(tmp_path):
    cfg, model, path = run_of(tmp_path)
    (tmp_path / "config.yaml").write_text(cfg.dump())
    plain, _ = convert(path, str(tmp_path / "plain.safetensors"), "safetensors", with_fpn=False)
    check(load_network(plain), model.backbone.bottom_up)


TIMM = ["MODEL.BACKBONE.NAME", "build_timm_fpn_backbone", "MODEL.TIMM.NAME", "mobilenetv3_small_050"]


def test_files_of_timm(tmp_path):
    """The file that the run leaves, and timm's own network with its classifier."""
    cfg = configs.tiny(*TIMM)
    model = nn.ModuleDict({"backbone": timm_helpers.randomize(build_backbone(cfg)).eval()})
    (tmp_path / "config.yaml").write_text(cfg.dump())
    write_plain_backbone(model, IMAGENET, str(tmp_path))
    check(load_network(str(tmp_path / TIMM_FILE)), model.backbone.bottom_up)

    whole = timm_helpers.randomize(timm.create_model("mobilenetv3_small_050")).eval()
    (tmp_path / "timm").mkdir()
    torch.save(whole.state_dict(), tmp_path / "timm" / "weights.pth")
    model.backbone.bottom_up.net.load_state_dict(whole.state_dict(), strict=False)
    found = load_network(str(tmp_path / "timm" / "weights.pth"), config_file=str(tmp_path / "config.yaml"))
    check(found, model.backbone.bottom_up)
    for text in ("", "trainer: {epochs: 3}\n"):  # also beside the config of another program
        if text:
            (tmp_path / "timm" / "config.yaml").write_text(text)
        with pytest.raises(UsageError, match="weights.pth holds no online backbone in any known format"):
            load_network(str(tmp_path / "timm" / "weights.pth"))


def test_a_resnet_that_only_timm_has(tmp_path):
    """The deep stem of resnet18d, which detectron2's ResNet cannot take."""
    cfg = configs.tiny(*TIMM, "MODEL.TIMM.NAME", "resnet18d")
    network = timm_helpers.randomize(timm.create_model("resnet18d")).eval()
    (tmp_path / "config.yaml").write_text(cfg.dump())
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    backbone = build_backbone(cfg).eval()
    backbone.bottom_up.net.load_state_dict(network.state_dict(), strict=False)
    check(load_network(str(tmp_path / "weights.pth")), backbone.bottom_up)


@pytest.mark.parametrize(
    ("opts", "convention", "message"),
    [
        (REGNET, TORCHVISION, "model_final.pth is no plain ResNet: name the config of its training with --config-file"),
        (GROUP_NORM, TORCHVISION, "The norms of the backbone of .*model_final.pth have no statistics: name the config"),
        (configs.C5, None, "model_final.pth does not say which input its backbone takes: name the config"),
    ],
)
def test_what_cannot_be_told_from_the_tensors(opts, convention, message, tmp_path):
    _, _, path = run_of(tmp_path, *opts, convention=convention)
    with pytest.raises(UsageError, match=message):
        load_network(path)


def test_another_config_than_the_trainings(tmp_path):
    _, _, path = run_of(tmp_path)
    with pytest.raises(UsageError, match=r"does not fit .*R_50_FPN_1x.yaml \(\S+ differs\): name the config"):
        load_network(path, config_file=str(configs.CONFIGS / RETINANET))


def test_the_checkpoint_tells_the_stride_and_the_range(tmp_path):
    """A config without them builds detectron2's default stride, on which the names and shapes of tensors agree."""
    deep = replace(TORCHVISION, pixel_range=(0.0, 4095.0))
    _, model, path = run_of(tmp_path, *configs.C5, *NARROW, convention=deep)
    config = tmp_path / "other.yaml"
    resnet = {"DEPTH": 50, "NORM": "BN", "STEM_OUT_CHANNELS": 8, "RES2_OUT_CHANNELS": 32, "WIDTH_PER_GROUP": 8}
    config.write_text(yaml.dump({"MODEL": {"RESNETS": {**resnet, "STRIDE_IN_1X1": True}}}))
    for network in (load_network(path), load_network(path, config_file=str(config))):
        check(network, model.backbone)
        assert network.pixel_range == (0.0, 4095.0)


def test_grey_images(tmp_path):
    grey = InputConvention("L", (120.0,), (60.0,), None)
    opts = ["MODEL.PIXEL_MEAN", [120.0], "MODEL.PIXEL_STD", [60.0], "INPUT.FORMAT", "L"]
    cfg, _, path = run_of(tmp_path, *opts, convention=grey)
    assert load_network(path).channels == 1
