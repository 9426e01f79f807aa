"""Converting networks of timm: bit by bit, there and back."""

import pytest
import timm
import torch
from checkpoint_helpers import same
from timm_helpers import build, model_of

from pixpro_d2.checkpoint import PixProCheckpointer
from pixpro_d2.checkpoint.convention import IMAGENET, MSRA, InputConvention
from pixpro_d2.checkpoint.conversion import convert
from pixpro_d2.checkpoint.formats import recognise
from pixpro_d2.checkpoint.initialize import initialize
from pixpro_d2.checkpoint.reading import read_checkpoint
from pixpro_d2.utils.errors import UsageError

NAMES = ("convnext_atto", "vit_tiny_patch16_224", "swin_tiny_patch4_window7_224", "resnet18")
HALVES = InputConvention("RGB", (127.5,) * 3, (127.5,) * 3)


def save(folder, network, convention=IMAGENET, below_a_pyramid=False):
    """Save the checkpoint of a pre-training whose target network has other values; return its path."""
    model = model_of(network)
    if below_a_pyramid:
        inner, model.backbone = model.backbone, torch.nn.Module()
        model.backbone.bottom_up = inner
        model.backbone.simfp_4 = torch.nn.Linear(2, 2)
    model.target_backbone = torch.nn.Module()
    model.target_backbone.net = build(network.pretrained_cfg["architecture"], seed=9)
    PixProCheckpointer(model, str(folder), convention=convention).save("model_final", iteration=1)
    return str(folder / "model_final.pth")


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
@pytest.mark.parametrize("name", NAMES)
def test_there_and_back_gives_the_same_bits(name, suffix, tmp_path):
    network = build(name)
    path = save(tmp_path, network, below_a_pyramid=name.startswith("vit"))
    out, what = convert(path, str(tmp_path / f"out.{suffix}"), "timm")
    assert f"timm format, network of timm of {len(network.state_dict())} tensors" in what
    assert ("without its FPN of 2 tensors" in what) == name.startswith("vit")
    state = read_checkpoint(out) if suffix == "pth" else read_checkpoint(out)["model"]
    assert same(state, network.state_dict())
    other = build(name, seed=1)
    missing, unexpected = other.load_state_dict(state, strict=False)
    assert not missing and not unexpected
    ours = build(name, seed=2)
    initialize(model_of(ours), out)
    assert same(ours.state_dict(), network.state_dict())


def test_a_whole_network_of_timm_takes_all_but_its_last_norm(tmp_path):
    network = timm.create_model("convnext_atto", num_classes=0)
    network.prune_intermediate_layers([0, 1, 2, 3], prune_norm=True)
    out, _ = convert(save(tmp_path, network), str(tmp_path / "out.pth"), "timm")
    whole = timm.create_model("convnext_atto", num_classes=0)
    missing, unexpected = whole.load_state_dict(torch.load(out, weights_only=True), strict=False)
    assert missing == ["head.norm.weight", "head.norm.bias"] and not unexpected


def test_target_branch_and_our_own_names(tmp_path):
    network = build("convnext_atto")
    path = save(tmp_path, network)
    target, _ = convert(path, str(tmp_path / "target.pth"), "timm", branch="target")
    assert same(read_checkpoint(target), build("convnext_atto", seed=9).state_dict())
    own, _ = convert(path, str(tmp_path / "own.safetensors"), "safetensors")
    assert all(name.startswith("backbone.net.") for name in read_checkpoint(own)["model"])
    back, _ = convert(own, str(tmp_path / "back.pth"), "timm")
    assert same(read_checkpoint(back), network.state_dict())


def test_the_input_travels_with_safetensors(tmp_path):
    network = build("vit_tiny_patch16_224")
    path = save(tmp_path, network)  # timm's own weights of the network have another input
    out, what = convert(path, str(tmp_path / "out.safetensors"), "timm")
    assert f"input: {IMAGENET}" in what
    source = recognise(read_checkpoint(out), out, network)
    assert source.convention == IMAGENET and source.format == "network of timm"


@pytest.mark.parametrize("to, suffix", [("torchvision", "pth"), ("official", "pth"), ("detectron2", "pkl")])
@pytest.mark.parametrize("name, convention", [("resnet18", IMAGENET), ("vit_tiny_patch16_224", HALVES)])
def test_formats_of_resnets_are_refused(to, suffix, name, convention, tmp_path):
    path = save(tmp_path, build(name), convention)
    with pytest.raises(
        UsageError, match=f"backbone of {path} is a network of timm and no ResNet: use --to timm or safetensors"
    ):
        convert(path, str(tmp_path / f"out.{suffix}"), to)


def test_timm_takes_no_swapped_channels(tmp_path):
    path = save(tmp_path, build("convnext_atto"), MSRA)
    with pytest.raises(UsageError, match="expects BGR .* but timm's networks take RGB: use --to safetensors"):
        convert(path, str(tmp_path / "out.pth"), "timm")
