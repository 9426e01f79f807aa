"""Converting checkpoints: bit by bit, into what the other code really loads."""

import pickle
import pickletools
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torchvision
from checkpoint_helpers import same
from detectron2 import model_zoo
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.modeling import build_model
from torchvision.models.detection.backbone_utils import BackboneWithFPN

import configs
from configs import C5
from pixpro_d2.checkpoint import PixProCheckpointer
from pixpro_d2.checkpoint.convention import MSRA, TORCHVISION
from pixpro_d2.checkpoint.conversion import SUFFIXES, convert
from pixpro_d2.checkpoint.formats import recognise
from pixpro_d2.checkpoint.reading import read_checkpoint
from pixpro_d2.utils.errors import UsageError


def load(path):
    return torch.load(path, weights_only=True)


def randomize(model):
    """Distinct values in every tensor, target branch and statistics included."""
    torch.manual_seed(4)
    for name, value in model.state_dict().items():
        if value.is_floating_point():
            value.uniform_(0.5, 1.5) if name.endswith("running_var") else value.normal_(0, 0.1)
        else:
            value.fill_(7)
    return model.eval()


def save(folder, model, **kwargs):
    PixProCheckpointer(model, str(folder), **kwargs).save("model_final", iteration=9)
    return str(folder / "model_final.pth")


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """(model, path) of a pre-training run with everything on the C5 of a ResNet-18."""
    opts = [*C5, "MODEL.PIXPRO.INSTANCE.WEIGHT", 1.0]
    model = randomize(build_model(configs.tiny(*opts)))
    return model, save(tmp_path_factory.mktemp("plain"), model, convention=TORCHVISION)


@pytest.fixture(scope="module")
def pyramid(tmp_path_factory):
    """(model, path) of a pre-training run on the FPN of a ResNet-18."""
    model = randomize(build_model(configs.tiny()))
    return model, save(tmp_path_factory.mktemp("fpn"), model, convention=TORCHVISION)


def torchvision_state(depth):
    state = randomize(getattr(torchvision.models, f"resnet{depth}")()).state_dict()
    return {name: value for name, value in state.items() if not name.startswith("fc.")}


@pytest.mark.parametrize("depth", [18, 50])
@pytest.mark.parametrize("to", SUFFIXES)
def test_there_and_back_gives_the_same_bits(to, depth, tmp_path):
    theirs = torchvision_state(depth)
    torch.save(theirs, tmp_path / "in.pth")
    there, _ = convert(str(tmp_path / "in.pth"), str(tmp_path / f"there{SUFFIXES[to][0]}"), to)
    back, what = convert(there, str(tmp_path / "back.pth"), "torchvision")
    assert same(load(back), theirs)
    assert f"resnet{depth} of {len(theirs)} tensors" in what and str(TORCHVISION) in what


def official_r50():
    """Official checkpoint of a ResNet-50: 318 encoder tensors, the same of its copy, and a head."""
    encoder = torchvision_state(50)
    model = {f"module.encoder.{name}": value for name, value in encoder.items()}
    model.update({f"module.encoder_k.{name}": value + 1 for name, value in encoder.items()})
    return {**model, "module.projector.linear1.weight": torch.zeros(2, 2048, 1, 1)}


def officially_converted(model):
    """What the official converter makes; its rules in its order, on the online encoder."""
    converted = {}
    for name, value in model.items():
        if not name.startswith("module.encoder."):
            continue
        name = name.removeprefix("module.encoder.")
        name = name if "layer" in name else f"stem.{name}"
        for old, new in (("layer1", "res2"), ("layer2", "res3"), ("layer3", "res4"), ("layer4", "res5")):
            name = name.replace(old, new)
        for number in "123":
            name = name.replace(f"bn{number}", f"conv{number}.norm")
        converted[name.replace("downsample.0", "shortcut").replace("downsample.1", "shortcut.norm")] = value.numpy()
    return {"model": converted, "__author__": "PixPro", "matching_heuristics": True}


def test_official_checkpoints_convert_as_by_the_official_converter(tmp_path):
    model = official_r50()
    torch.save({"model": model, "epoch": 100}, tmp_path / "current.pth")
    convert(str(tmp_path / "current.pth"), str(tmp_path / "out.pkl"), "detectron2")
    with open(tmp_path / "out.pkl", "rb") as file:
        ours = pickle.load(file)
    expected = officially_converted(model)
    assert len(expected["model"]) == 318 and sum("num_batches_tracked" in name for name in expected["model"]) == 53
    assert list(ours) == list(expected) and list(ours["model"]) == list(expected["model"])
    assert ours["__author__"] == "PixPro" and ours["matching_heuristics"] is True
    for name, array in expected["model"].items():
        assert type(ours["model"][name]) is type(array) and ours["model"][name].dtype == array.dtype
        assert ours["model"][name].tobytes() == array.tobytes()


def test_target_branch(plain, tmp_path):
    model, path = plain
    online, _ = convert(path, str(tmp_path / "online.pth"), "torchvision")
    target, _ = convert(path, str(tmp_path / "target.pth"), "torchvision", branch="target")
    assert torch.equal(load(online)["conv1.weight"], model.backbone.stem.conv1.weight)
    assert torch.equal(load(target)["conv1.weight"], model.target_backbone.stem.conv1.weight)


def test_official_round_trip_of_a_whole_model(plain, tmp_path):
    """All parts of the official model, and back from them into this project's."""
    model, path = plain
    official, what = convert(path, str(tmp_path / "official.pth"), "official")
    parts = {}
    for name in load(official)["model"]:
        part = name.removeprefix("module.").split(".")[0]
        parts[part] = parts.get(part, 0) + 1
    assert load(official)["epoch"] == 0 and not zipfile.is_zipfile(official)  # PyTorch 1.4 reads no zip of today
    heads = dict.fromkeys(
        ("projector", "projector_k", "projector_instance", "projector_instance_k", "predictor"), 9
    )  # fmt: skip
    assert parts == {"encoder": 120, "encoder_k": 120, "value_transform": 2, **heads}
    state = recognise(read_checkpoint(official), official).state
    assert same(state, model.state_dict()) and "without" not in what


def test_official_model_of_a_resnet_50_has_683_entries(tmp_path):
    opts = [*C5, "MODEL.RESNETS.DEPTH", 50, "MODEL.RESNETS.RES2_OUT_CHANNELS", 256, "MODEL.PIXPRO.INSTANCE.WEIGHT", 1.0]
    path = save(tmp_path, build_model(configs.tiny(*opts)))
    official, what = convert(path, str(tmp_path / "official.pth"), "official")
    assert len(load(official)["model"]) == 683 and "input: unknown" in what


def test_the_official_format_has_no_place_for_the_heads_of_slotcon(tmp_path):
    path = save(tmp_path, build_model(configs.tiny(*C5, config="pretrain/slotcon_quickstart.yaml")))
    official, what = convert(path, str(tmp_path / "official.pth"), "official")
    assert {name.split(".")[1] for name in load(official)["model"]} == {"encoder", "encoder_k"}
    assert "without its pre-training heads" in what


def test_torchvisions_and_timms_resnet_load_it(plain, tmp_path):
    model, path = plain
    x = torch.randn(1, 3, 64, 64)
    for to in ("torchvision", "timm"):
        theirs = torchvision.models.resnet18().eval()
        state = load(convert(path, str(tmp_path / f"{to}.pth"), to)[0])
        missing, unexpected = theirs.load_state_dict(state, strict=False)
        assert set(missing) == {"fc.weight", "fc.bias"} and not unexpected
        with torch.no_grad():
            body = torch.nn.Sequential(*list(theirs.children())[:-2])
            torch.testing.assert_close(body(x), model.backbone(x)["res5"], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_torchvisions_fpn_loads_it_and_gives_the_same_pyramid(pyramid, tmp_path):
    model, path = pyramid
    out, what = convert(path, str(tmp_path / "fpn.pth"), "torchvision", with_fpn=True)
    levels = {"layer2": "0", "layer3": "1", "layer4": "2"}
    theirs = BackboneWithFPN(
        torchvision.models.resnet18(), levels, [128, 256, 512], 32, norm_layer=torch.nn.BatchNorm2d
    ).eval()
    theirs.load_state_dict(load(out))
    x = torch.randn(1, 3, 64, 96)
    for expected, level in zip(theirs(x).values(), ("p3", "p4", "p5", "p6")):
        torch.testing.assert_close(model.backbone(x)[level], expected, atol=1e-5, rtol=1e-5)
    assert "FPN of 36 tensors" in what  # 6 convolutions, each with its norm's 5
    back, _ = convert(out, str(tmp_path / "back.safetensors"), "safetensors")
    backbone = {n: v for n, v in model.state_dict().items() if n.startswith("backbone.")}
    assert same(read_checkpoint(back)["model"], backbone)


@pytest.mark.parametrize(
    "to, with_fpn, kept",
    [
        *((to, None, to in ("detectron2", "safetensors")) for to in SUFFIXES),
        *((to, False, False) for to in ("detectron2", "safetensors")),
        *((to, True, True) for to in ("detectron2", "safetensors")),
    ],
)
def test_who_keeps_the_pyramid(to, with_fpn, kept, pyramid, tmp_path):
    model, path = pyramid
    out, what = convert(path, str(tmp_path / f"out{SUFFIXES[to][0]}"), to, with_fpn=with_fpn)
    names = read_checkpoint(out).get("model", read_checkpoint(out))
    assert any("fpn" in name for name in names) == kept and not any("projector" in name for name in names)
    assert ("without its pre-training heads" in what) == (to == "official")
    assert ("without its FPN of 36 tensors" in what) == (not kept) and ("FPN of 36 tensors:" in what) == kept
    if to in ("torchvision", "timm"):  # as docs/downstream.md loads it
        theirs = torchvision.models.resnet18()
        missing, unexpected = theirs.load_state_dict(load(out), strict=False)
        assert set(missing) == {"fc.weight", "fc.bias"} and not unexpected
        assert torch.equal(theirs.layer4[1].conv2.weight, model.backbone.bottom_up.res5[1].conv2.weight)


def test_a_pyramid_that_cannot_be_kept_is_a_mistake(plain, pyramid, tmp_path):
    for to in ("timm", "official"):
        with pytest.raises(UsageError, match=f"--to {to} has no place for an FPN: .* use detectron2 or safetensors or"):
            convert(pyramid[1], str(tmp_path / "out.pth"), to, with_fpn=True)
    with pytest.raises(UsageError, match=f"online backbone of {plain[1]} has no FPN: leave out --with-fpn"):
        convert(plain[1], str(tmp_path / "out.pth"), "torchvision", with_fpn=True)


def detectron2_mask_rcnn():
    cfg = model_zoo.get_config("COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x.yaml")
    cfg.MODEL.DEVICE = "cpu"
    cfg.MODEL.BACKBONE.FREEZE_AT = 0
    cfg.MODEL.RESNETS.DEPTH, cfg.MODEL.RESNETS.RES2_OUT_CHANNELS = 18, 64
    cfg.MODEL.RESNETS.NORM = cfg.MODEL.FPN.NORM = "BN"
    cfg.MODEL.FPN.OUT_CHANNELS = 32
    return build_model(cfg)


def test_detectron2s_own_checkpointer_loads_trunk_and_pyramid_into_a_mask_rcnn(pyramid, tmp_path):
    model, path = pyramid
    out, _ = convert(path, str(tmp_path / "out.pkl"), "detectron2")
    detector = detectron2_mask_rcnn()
    DetectionCheckpointer(detector).load(out)
    ours, theirs = model.state_dict(), detector.state_dict()
    names = [name for name in ours if name.startswith("backbone.")]
    assert len(names) == 156 and all(torch.equal(ours[name], theirs[name]) for name in names)


def test_numpy_1_knows_the_names_in_the_pickle(tmp_path):
    """detectron2 v0.6 needs NumPy below 1.24 unpatched, which has no numpy._core; bfloat16 has no NumPy type at all."""
    state = torchvision_state(18)
    torch.save(
        {name: value.bfloat16() if value.is_floating_point() else value for name, value in state.items()},
        tmp_path / "in.pth",
    )
    out, _ = convert(str(tmp_path / "in.pth"), str(tmp_path / "out.pkl"), "detectron2")
    modules = {
        argument.split()[0] for code, argument, _ in pickletools.genops(Path(out).read_bytes()) if code.name == "GLOBAL"
    }
    assert "numpy.core.multiarray" in modules and not any(name.startswith("numpy._core") for name in modules)
    weights = read_checkpoint(out)["model"]
    assert torch.equal(torch.as_tensor(weights["stem.conv1.weight"]), state["conv1.weight"].bfloat16().float())


def test_detectron2s_own_checkpointer_loads_a_plain_resnet_below_a_new_pyramid(plain, tmp_path):
    model, path = plain
    out, _ = convert(path, str(tmp_path / "out.pkl"), "detectron2")
    detector = detectron2_mask_rcnn()
    DetectionCheckpointer(detector).load(out)
    theirs = detector.backbone.bottom_up.state_dict()
    assert same(theirs, model.backbone.state_dict())


def test_c4_detectors_give_their_whole_backbone(tmp_path):
    opts = ["MODEL.RESNETS.NORM", "BN", "MODEL.RPN.HEAD_NAME", "StandardRPNHead"]
    detector = build_model(configs.tiny(*opts, config="voc/faster_rcnn_R_50_C4_24k.yaml"))
    out, what = convert(save(tmp_path, detector), str(tmp_path / "out.pth"), "torchvision")
    weight = detector.roi_heads.res5[2].conv3.weight
    assert len(load(out)) == 318 and torch.equal(load(out)["layer4.2.conv3.weight"], weight)
    assert "resnet50" in what


def test_input_convention_travels(tmp_path):
    model = build_model(configs.tiny(*C5))
    path = save(tmp_path, model, convention=MSRA)
    for to in ("detectron2", "safetensors"):
        out, _ = convert(path, str(tmp_path / f"out{SUFFIXES[to][0]}"), to)
        assert recognise(read_checkpoint(out), out).convention == MSRA
    for to in ("torchvision", "timm", "official"):
        with pytest.raises(UsageError, match="expects BGR .* which this format cannot express: use --to detectron2"):
            convert(path, str(tmp_path / "out.pth"), to)


def test_a_range_of_pixels_is_stated_for_code_that_has_none(plain, tmp_path):
    path = save(tmp_path, plain[0], convention=replace(TORCHVISION, pixel_range=(-1000.0, 400.0)))
    for to in SUFFIXES:
        _, what = convert(path, str(tmp_path / f"out{SUFFIXES[to][0]}"), to)
        scaled = what.endswith("so that -1000 becomes 0 and 400 becomes 1 before mean and standard deviation")
        assert scaled == (to in ("torchvision", "timm", "official")) and "PIXEL_RANGE [-1000.0, 400.0]" in what


@pytest.mark.parametrize("to", ["torchvision", "timm", "official"])
def test_other_architectures_are_refused(to, tmp_path):
    deep = {"backbone.res2.0.conv1.weight": torch.zeros(1), "backbone.stem.conv2.weight": torch.zeros(1)}
    torch.save({"model": deep}, tmp_path / "deep.pth")
    with pytest.raises(UsageError, match=r"deep.pth is none of torchvision's resnet18.*it has stem.conv2.weight"):
        convert(str(tmp_path / "deep.pth"), str(tmp_path / "out.pth"), to)
    thin = {name: value[:1] if value.ndim == 4 else value for name, value in torchvision_state(18).items()}
    torch.save(thin, tmp_path / "thin.pth")
    with pytest.raises(UsageError, match=r"thin.pth is none of torchvision's .*its depth or widths are others"):
        convert(str(tmp_path / "thin.pth"), str(tmp_path / "out.pth"), to)
    grey = {**torchvision_state(18), "conv1.weight": torch.zeros(64, 1, 7, 7)}
    torch.save(grey, tmp_path / "grey.pth")
    with pytest.raises(UsageError, match=r"grey.pth is none of torchvision's .*its number of input channels is 1"):
        convert(str(tmp_path / "grey.pth"), str(tmp_path / "out.pth"), to)
    assert not (tmp_path / "out.pth").exists()


def test_group_norms_have_no_place_in_torchvisions_resnet(tmp_path):
    path = save(tmp_path, build_model(configs.tiny(*C5, "MODEL.RESNETS.NORM", "GN")))
    for to in ("torchvision", "timm", "official"):
        with pytest.raises(
            UsageError, match=r"final.pth lacks .* statistics of .* resnet18 \(bn1.running_mean.*use --to det"
        ):
            convert(path, str(tmp_path / "out.pth"), to)
    assert not (tmp_path / "out.pth").exists()
    for to in ("detectron2", "safetensors"):
        convert(path, str(tmp_path / f"out{SUFFIXES[to][0]}"), to)


def test_mistakes(plain, tmp_path):
    _, path = plain
    torch.save({"model": {"a.b": torch.zeros(1)}}, tmp_path / "unknown.pth")
    torch.save(torchvision_state(18), tmp_path / "single.pth")
    torch.save({**torchvision_state(18), "bn1.bias": torch.full((64,), float("nan"))}, tmp_path / "nan.pth")
    for arguments, message in (
        ((path, "out.pth", "detectron2"), "out.pth must end in .pkl"),
        ((path, "out.pth", "safetensors"), "must end in .safetensors"),
        ((path, "no/out.pth", "timm"), "There is no folder .*no: make it first"),
        ((path, "out.pth", "caffe"), "--to is 'caffe'; it must be detectron2"),
        ((path, "out.pth", "official", "target"), "official holds both branches"),
        ((str(tmp_path / "unknown.pth"), "out.pth", "timm"), "no online backbone.*are a.b; save the state dict of the"),
        ((str(tmp_path / "single.pth"), "out.pth", "timm", "target"), "holds no target backbone"),
        ((str(tmp_path / "nan.pth"), "out.pth", "timm"), r"nan.pth has .*NaN .*\(stem.conv1.norm.bias is the first"),
    ):
        with pytest.raises(UsageError, match=message):
            convert(*arguments)


def test_half_precision_keeps_the_nearest_numbers_and_all_integers(pyramid, tmp_path):
    model, path = pyramid
    out, _ = convert(path, str(tmp_path / "half.safetensors"), "safetensors", half=True)
    halves = read_checkpoint(out)["model"]
    expected = {f"backbone.{name}": value for name, value in model.backbone.state_dict().items()}
    assert set(halves) == set(expected)
    for name, value in expected.items():
        kind = torch.float16 if value.is_floating_point() else value.dtype
        assert halves[name].dtype == kind and torch.equal(halves[name], value.to(kind)), name


def test_half_precision_refuses_numbers_beyond_its_range(pyramid, tmp_path):
    checkpoint = load(pyramid[1])
    checkpoint["model"]["backbone.bottom_up.stem.conv1.norm.running_var"][3] = 65520  # rounds to infinity
    torch.save(checkpoint, tmp_path / "large.pth")
    out = tmp_path / "half.safetensors"
    with pytest.raises(UsageError, match=r"stem.conv1.norm.running_var of .* above 65504, .*: omit --half"):
        convert(str(tmp_path / "large.pth"), str(out), "safetensors", half=True)
    assert not out.exists()
