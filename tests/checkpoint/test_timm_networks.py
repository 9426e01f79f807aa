"""Weights of networks of timm: every layout that is read, and each difference that is an error."""

import pytest
import safetensors.torch
import timm
import timm_helpers
import torch
from timm_helpers import build, model_of

from pixpro_d2.checkpoint import PixProCheckpointer
from pixpro_d2.checkpoint.convention import IMAGENET, TORCHVISION, InputConvention
from pixpro_d2.checkpoint.formats import recognise
from pixpro_d2.checkpoint.initialize import initialize
from pixpro_d2.checkpoint.reading import read_checkpoint
from pixpro_d2.checkpoint.timm_networks import find_weights, network_of
from pixpro_d2.modeling.timm_backbone import TimmBackbone
from pixpro_d2.utils.errors import UsageError

CONVNEXT, VIT, SWIN = "convnext_atto", "vit_tiny_patch16_224", "swin_tiny_patch4_window7_224"
HALVES = InputConvention("RGB", (127.5,) * 3, (127.5,) * 3)  # of timm's own weights of VIT


def load(name, contents, path, seed=1, network=None, **options):
    """Load contents of a file into a fresh model with a network; return the network and what was loaded."""
    torch.save(contents, path)
    network = network if network is not None else build(name, seed=seed)
    return network, initialize(model_of(network), str(path), **options)


def assert_equal(network, state):
    own = network.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in own.items()), "a weight differs"


LAYOUTS = {
    "state dict": lambda state: state,
    "model": lambda state: {"model": state, "epoch": 3},
    "parallel": lambda state: {"state_dict": {f"module.{name}": value for name, value in state.items()}},
    "lightning": lambda state: {"state_dict": {f"model.{name}": value for name, value in state.items()}},
    "backbone": lambda state: {f"backbone.{name}": value for name, value in state.items()},
    "anything": lambda state: {f"trunk.body.{name}": value for name, value in state.items()},
    "DINO": lambda state: {
        "student": {f"module.backbone.{name}": value + 1 for name, value in state.items()},
        "teacher": {f"backbone.{name}": value for name, value in state.items()},
    },
    "MoCo v3": lambda state: {
        "state_dict": {
            f"module.{part}.{name}": value + i
            for i, part in enumerate(("base_encoder", "momentum_encoder"))
            for name, value in state.items()
        }
    },
    "beside a frozen teacher": lambda state: {
        **state,
        **{f"teacher.{name}": value + 1 for name, value in state.items()},
    },
    "student": lambda state: {f"student.backbone.{name}": value for name, value in state.items()},
}


@pytest.mark.parametrize("name, layout", [*((CONVNEXT, layout) for layout in LAYOUTS), (VIT, "DINO")])
def test_prefixes_of_wrappers_and_research_code(name, layout, tmp_path):
    state = build(name, num_classes=7).state_dict()
    network, loaded = load(name, LAYOUTS[layout](state), tmp_path / "w.pth")
    assert_equal(network, state)
    assert not loaded.missing and f"{len(loaded.loaded)} of {len(loaded.loaded)} weights loaded" in loaded.summary


def test_safetensors_and_files_without_a_classifier(tmp_path):
    path = str(tmp_path / "w.safetensors")
    state = build(CONVNEXT).state_dict()
    safetensors.torch.save_file(state, path)
    network = build(CONVNEXT, seed=1)
    assert "(network of timm)" in initialize(model_of(network), path).summary
    assert_equal(network, state)


def test_pruned_parts_of_the_file_have_no_place(tmp_path):
    network = build(CONVNEXT, seed=1)
    network.prune_intermediate_layers([0, 1])
    state = build(CONVNEXT, num_classes=7).state_dict()
    loaded = load(CONVNEXT, state, tmp_path / "w.pth", network=network)[1]
    assert_equal(network, state)
    assert not any("stages.2" in name or "head" in name for name in loaded.loaded)
    own = {f"backbone.net.{name}": value for name, value in state.items()}
    network = load(CONVNEXT, own, tmp_path / "own.pth", network=network)[0]
    assert_equal(network, state)


@pytest.mark.parametrize(
    "name, layout",
    [
        ("vit_small_patch14_dinov2", timm_helpers.official_dinov2),
        ("vit_small_patch14_reg4_dinov2", timm_helpers.official_dinov2),
        ("vit_small_patch16_dinov3", timm_helpers.official_dinov3),
        (CONVNEXT, timm_helpers.official_convnext),
        (SWIN, timm_helpers.official_swin),
    ],
)
@pytest.mark.parametrize("prefix", ["", "teacher.backbone."])
def test_official_releases(name, layout, prefix, tmp_path, capsys):
    state = build(name, num_classes=0 if "dino" in name else 7).state_dict()
    official = {f"{prefix}{key}": value for key, value in layout(state).items()}
    network, loaded = load(name, {"model": official}, tmp_path / "w.pth")
    own = network.state_dict()
    assert not loaded.missing and "Resized" not in loaded.summary
    assert not capsys.readouterr().out
    for key, value in own.items():  # the class token of a release with registers is the sum of two
        torch.testing.assert_close(value, state[key], atol=1e-7 if key == "cls_token" else 0, rtol=0)


def test_a_resnet_of_torchvision_goes_into_timms(tmp_path):
    state = build("resnet18", num_classes=7).state_dict()
    assert recognise(dict(state), "w").format == "torchvision or timm ResNet"
    network, loaded = load("resnet18", state, tmp_path / "w.pth")
    assert_equal(network, state)
    assert "Backbone: 20 of 20 convolutions" in loaded.summary


def test_a_variant_of_resnet_goes_into_its_network_alone(tmp_path):
    state = build("resnet18d", num_classes=7).state_dict()
    network, _ = load("resnet18d", state, tmp_path / "w.pth")
    assert_equal(network, state)
    with pytest.raises(UsageError, match="holds a variant of ResNet"):
        recognise(dict(state), "w.pth")


def test_own_checkpoints_below_a_pyramid_and_without(tmp_path):
    network = build(VIT)
    plain, below = model_of(network), torch.nn.Module()
    plain.target_backbone = model_of(build(VIT, seed=2)).backbone
    below.backbone = torch.nn.Module()
    below.backbone.bottom_up = model_of(build(VIT, seed=3)).backbone
    below.backbone.simfp_4 = torch.nn.Linear(2, 2)
    PixProCheckpointer(plain, str(tmp_path), convention=HALVES).save("model_final", iteration=1)
    loaded = initialize(below, str(tmp_path / "model_final.pth"), convention=HALVES)
    assert network_of(below) is below.backbone.bottom_up.net
    assert_equal(below.backbone.bottom_up.net, network.state_dict())
    assert "(pixpro_d2 checkpoint)" in loaded.summary and loaded.summary.endswith("Not in the file: pyramid (2).")
    PixProCheckpointer(below, str(tmp_path)).save("detector", iteration=1)
    other = model_of(build(VIT, seed=4))
    initialize(other, str(tmp_path / "detector.pth"))
    assert_equal(other.backbone.net, network.state_dict())
    with pytest.raises(UsageError, match="trained with RGB of mean.*set MODEL.PIXEL_MEAN"):
        initialize(other, str(tmp_path / "model_final.pth"), convention=TORCHVISION)


@pytest.mark.parametrize("leaf", ["pos_embed", "cls_token", "blocks.1.norm2.bias"])
def test_a_missing_tensor_of_any_kind_is_an_error_unless_a_part_is_allowed(leaf, tmp_path):
    state = build(VIT).state_dict()
    del state[leaf]
    with pytest.raises(UsageError, match=rf"\({leaf} is not there; differing weights: 1\).*or set MODEL.ALLOW_PART"):
        load(VIT, state, tmp_path / "w.pth")
    with pytest.raises(UsageError, match="frozen and must be covered"):
        load(VIT, state, tmp_path / "w.pth", allow_partial=True, frozen=True)
    loaded = load(VIT, state, tmp_path / "w.pth", allow_partial=True)[1]
    assert loaded.missing == {f"backbone.net.{leaf}"}


@pytest.mark.parametrize(
    "name, other, difference",
    [
        (CONVNEXT, {"dims": (16, 16, 16, 16)}, r"stem.0.weight is \[16, 3, 4, 4\] there and \[8, 3, 4, 4\] here"),
        (CONVNEXT, {"depths": (1, 1, 7, 1)}, r"stages.2.blocks.6.\S+ is not here"),
        (CONVNEXT, {"depths": (1, 1, 1, 1)}, r"stages.2.blocks.1.\S+ is not there"),
        (VIT, {"embed_dim": 32}, r"patch_embed.proj.weight is \[32, 3, 16, 16\] there and \[16, 3, 16, 16\] here"),
        (VIT, {"patch_size": 32}, r"patch_embed.proj.weight is \[16, 3, 32, 32\] there and \[16, 3, 16, 16\] here"),
        (VIT, {"depth": 1}, r"blocks.1.\S+ is not there"),
        (SWIN, {"embed_dim": 16}, r"patch_embed.proj.weight is \[16, 3, 4, 4\] there and \[8, 3, 4, 4\] here"),
    ],
)
def test_another_network_is_an_error_with_its_first_difference(name, other, difference, tmp_path):
    state = build(name, **other).state_dict()
    with pytest.raises(UsageError, match=rf"w.pth is of another network of timm than the model \({difference}.*: set "):
        load(name, state, tmp_path / "w.pth", allow_partial=name == VIT and "embed_dim" in other)


@pytest.mark.parametrize("odd", [torch.tensor(1.0), torch.zeros(0), torch.zeros(1, 198, 16), torch.zeros(1, 197, 0)])
def test_position_embeddings_that_fit_no_grid_are_an_error(odd, tmp_path):
    state = {**build(VIT).state_dict(), "pos_embed": odd}
    with pytest.raises(UsageError, match=r"\(pos_embed is \[.* here; differing weights: 1\)"):
        load(VIT, state, tmp_path / "w.pth")


@pytest.mark.parametrize("prefix", ["", "backbone.net.", "backbone."])
def test_a_network_of_another_kind_is_an_error(prefix, tmp_path):
    state = {f"{prefix}{name}": value for name, value in build(CONVNEXT).state_dict().items()}
    with pytest.raises(UsageError, match=r"patch_embed.proj.weight is not there; .* set MODEL.TIMM.NAME to"):
        load(VIT, state, tmp_path / "w.pth")
    resnet = {f"{prefix}{name}": value for name, value in build("resnet18").state_dict().items()}
    sentence = "patch_embed.proj.weight is not there|holds no weight of this model's backbone"
    with pytest.raises(UsageError, match=rf"({sentence}).*set MODEL.TIMM.NAME to the network of the weights"):
        load(VIT, resnet, tmp_path / "w.pth")


def test_a_network_of_timm_is_no_resnet_of_detectron2(tmp_path):
    resnet = torch.nn.Module()
    resnet.backbone = torch.nn.ModuleDict({"stem": torch.nn.ModuleDict({"conv1": torch.nn.Conv2d(3, 4, 7)})})
    torch.save(
        {f"backbone.net.{name}": value for name, value in build("resnet18").state_dict().items()}, tmp_path / "w"
    )
    with pytest.raises(
        UsageError, match=r"holds no weight of this model's backbone: its first names are backbone.net."
    ):
        initialize(resnet, str(tmp_path / "w"))


def test_position_embeddings_of_another_size_are_resized_and_the_log_says_so(tmp_path):
    state = build(VIT, img_size=64).state_dict()
    network, loaded = load(VIT, state, tmp_path / "w.pth")
    assert "Resized: pos_embed from [1, 17, 16] to [1, 197, 16]." in loaded.summary
    assert torch.equal(network.pos_embed[:, 0], state["pos_embed"][:, 0])  # the class token has no place in the grid
    ramp = state["pos_embed"].clone()
    ramp[:, 1:] = torch.arange(4.0).repeat(4)[None, :, None]  # a column of each value
    network = load(VIT, {**state, "pos_embed": ramp}, tmp_path / "w.pth")[0]
    grid = network.pos_embed[0, 1:, 0].view(14, 14)
    assert torch.allclose(grid, grid[:1]) and (grid[0].diff() > 0).all()


def test_images_with_another_number_of_channels(tmp_path):
    grey = build(VIT, in_chans=1)
    with pytest.raises(
        UsageError, match="input channels is 1 in MODEL.WEIGHTS .* and 3 in the model: set INPUT.FORMAT"
    ):
        load(VIT, grey.state_dict(), tmp_path / "w.pth", convention=HALVES)
    convention = InputConvention("L", (0.0,), (255.0,))
    network = load(VIT, grey.state_dict(), tmp_path / "w.pth", network=build(VIT, 1, in_chans=1), convention=convention)
    assert_equal(network[0], grey.state_dict())


@pytest.mark.parametrize(
    "name, layout, convention",
    [
        (VIT, "state dict", HALVES),
        (VIT, "parallel", HALVES),
        (VIT, "DINO", IMAGENET),
        (VIT, "student", IMAGENET),
        (VIT, "MoCo v3", IMAGENET),
        (f"{VIT}.augreg_in21k", "state dict", HALVES),
        ("vit_small_patch16_224.dino", "state dict", IMAGENET),
        (CONVNEXT, "state dict", IMAGENET),
    ],
)
def test_the_input_is_of_the_format_or_else_of_the_network(name, layout, convention):
    network = build(name, **timm_helpers.VIT) if name.startswith("vit") else build(name)
    source = recognise(LAYOUTS[layout](network.state_dict()), "w.pth", network)
    assert not source.convention.keys_to_set(convention) and not convention.keys_to_set(source.convention)


def test_another_input_is_refused_with_the_keys_to_set(tmp_path):
    state = build(VIT).state_dict()
    load(VIT, state, tmp_path / "w.pth", convention=HALVES)
    keys = r'set MODEL.PIXEL_MEAN "\[127.5, 127.5, 127.5\]" MODEL.PIXEL_STD "\[127.5, 127.5, 127.5\]".*tag'
    with pytest.raises(UsageError, match=keys):
        load(VIT, state, tmp_path / "w.pth", convention=TORCHVISION)


def test_weights_that_are_no_numbers_or_not_finite(tmp_path):
    state = build(VIT).state_dict()
    for name, bad, message in (
        ("pos_embed", state["pos_embed"].long(), "no plain numbers .backbone.net.pos_embed is of type int64"),
        ("cls_token", state["cls_token"] / 0, "infinite or NaN values"),
    ):
        with pytest.raises(UsageError, match=message):
            load(VIT, {**state, name: bad}, tmp_path / "w.pth")


@pytest.mark.parametrize("name", ["resnet50d", "efficientnet_b0", "swinv2_cr_tiny_ns_224", "eva02_tiny_patch14_224"])
def test_all_names_of_whole_networks_have_a_place(name):
    with torch.device("meta"):
        network = TimmBackbone(name).net
        found = find_weights(timm.create_model(name, pretrained=False).state_dict(), network)
    assert {key.removeprefix("backbone.net.") for key in found.state if key.startswith("backbone.net.")} == set(
        network.state_dict()
    )


def test_two_networks_of_which_none_is_the_backbone():
    state = build(VIT).state_dict()
    assert find_weights({f"{part}.{name}": v for part in "ab" for name, v in state.items()}, build(VIT)) is None


def test_files_run_no_code(tmp_path):
    torch.save({"state_dict": {**build(VIT).state_dict(), "odd": build(CONVNEXT)}}, tmp_path / "w.pth")
    with pytest.raises(UsageError, match="was refused"):
        read_checkpoint(str(tmp_path / "w.pth"))
    with pytest.raises(UsageError, match="was refused"):
        initialize(model_of(build(VIT)), str(tmp_path / "w.pth"))
