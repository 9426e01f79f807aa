"""Teachers by name of timm, folder of a run and TorchScript file: they give their own features, or one sentence."""

import functools
import logging
import shutil

import pytest
import timm
import timm_helpers
import torch
from detectron2.modeling import build_backbone, build_model
from distillation_helpers import save_script

import configs
from pixpro_d2.checkpoint import PixProCheckpointer
from pixpro_d2.modeling import timm_backbone
from pixpro_d2.modeling.pretrain.distillation_builder import build_teacher
from pixpro_d2.modeling.pretrain.teacher_networks import open_teacher
from pixpro_d2.modeling.timm_backbone import TimmBackbone
from pixpro_d2.utils.errors import UsageError

VIT, SMALL = "vit_tiny_patch16_224", "mobilenetv3_small_050"
DISTILL = "MODEL.PIXPRO.DISTILL"
IMAGES = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def save_timm(path, name):
    """Random weights of a network of timm; returns the backbone and the path of the file."""
    torch.manual_seed(0)
    backbone = TimmBackbone(name).eval()
    torch.save(backbone.net.state_dict(), path)
    return backbone, str(path)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Folder of a run ``run`` on a pyramid and of a classifier's ``classifier``, of timm's weights and a script."""
    folder = tmp_path_factory.mktemp("teachers")
    for name, cfg in (
        ("run", configs.tiny("INPUT.FORMAT", "BGR", "MODEL.PIXEL_MEAN", [103.5, 116.3, 123.7])),
        ("classifier", configs.tiny(config="classification/resnet_R_18_small.yaml")),
    ):
        torch.manual_seed(1)
        (folder / name).mkdir()
        PixProCheckpointer(build_model(cfg), str(folder / name)).save("model_final", iteration=3)
        (folder / name / "config.yaml").write_text(cfg.dump())
    save_script(folder / "script.ts")
    save_timm(folder / "vit.pth", VIT)
    save_timm(folder / "small.pth", SMALL)
    return folder


def test_a_network_of_timm(files, caplog):
    caplog.set_level(logging.INFO, "pixpro_d2")
    backbone, path = save_timm(files / "vit.pth", VIT)
    cfg = configs.tiny(f"{DISTILL}.TEACHER", VIT, f"{DISTILL}.WEIGHTS", path)
    teacher = build_teacher(cfg)
    # The views have ImageNet's mean and deviation, this network 0.5 and 0.5.
    mean, std = (torch.tensor(x).view(3, 1, 1) / 255 for x in (cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD))
    with torch.no_grad():
        want = backbone((IMAGES - 0.5) / 0.5)["last_feat"]
    assert teacher.channels == 192 and want.shape == (2, 192, 4, 4)
    torch.testing.assert_close(teacher((IMAGES - mean) / std).float(), want, atol=0.1, rtol=0.05)  # bfloat16
    lines = [line for line in caplog.messages if "the views, RGB of mean" in line]
    assert len(lines) == 1 and "192 channels, 4 x 4 for a view of 64 x 64" in lines[0]
    assert "become RGB of mean 127.5, 127.5, 127.5 and standard deviation 127.5, 127.5, 127.5" in lines[0]


def test_a_feature_by_name(files):
    backbone, path = save_timm(files / "small.pth", SMALL)
    for feature, name in (("res3", "res3"), ("", "res5")):
        frozen = open_teacher(SMALL, path, feature)
        with torch.no_grad():
            torch.testing.assert_close(frozen.network.eval()(IMAGES), backbone(IMAGES)[name])
        count = sum(1 for _ in frozen.network.parameters())
        assert (count < sum(1 for _ in backbone.parameters())) == (feature == "res3")  # no later stages


def online(files, name):
    """The backbone of a run in the fixture, by detectron2."""
    cfg = configs.load_config(str(files / name / "config.yaml"), [])
    backbone = build_backbone(cfg).eval()
    state = torch.load(files / name / "model_final.pth", weights_only=True)["model"]
    start = "backbone."
    backbone.load_state_dict({key.removeprefix(start): x for key, x in state.items() if key.startswith(start)})
    return backbone


@pytest.mark.parametrize("feature", ["", "res4", "p4"])
def test_a_run_with_a_pyramid(files, feature):
    frozen = open_teacher(str(files / "run"), "", feature)
    backbone = online(files, "run")
    with torch.no_grad():
        features = {**backbone.bottom_up(IMAGES), **backbone(IMAGES)}
        torch.testing.assert_close(frozen.network.eval()(IMAGES), features[feature or "res5"])
    assert frozen.input.format == "BGR" and tuple(frozen.input.pixel_mean) == (103.5, 116.3, 123.7)
    assert any("fpn" in name for name, _ in frozen.network.named_parameters()) == (feature == "p4")


def test_a_classifier_and_its_last_checkpoint(files, tmp_path):
    shutil.copytree(files / "classifier", tmp_path / "run")
    (tmp_path / "run/model_final.pth").rename(tmp_path / "run/model_0000003.pth")
    (tmp_path / "run/last_checkpoint").write_text("model_0000003.pth")
    frozen = open_teacher(str(tmp_path / "run"), "", "")
    earlier = open_teacher(str(tmp_path / "run"), "", "res4")  # of a run that only needed res5
    backbone = online(files, "classifier")
    with torch.no_grad():
        torch.testing.assert_close(frozen.network.eval()(IMAGES), backbone(IMAGES)["res5"])
        torch.testing.assert_close(backbone.res5(earlier.network.eval()(IMAGES)), backbone(IMAGES)["res5"])


def test_a_script(files):
    frozen = open_teacher(str(files / "script.ts"), "", "")
    assert frozen.network(IMAGES).shape == (2, 5, 8, 8)
    assert tuple(frozen.input.pixel_mean) == (123.675, 116.28, 103.53) and "with ImageNet's mean" in frozen.description


@pytest.fixture(scope="module")
def wrong(files):
    """The same folder, with damaged and incomplete runs."""
    for name in ("empty", "damaged", "shorter", "other"):
        shutil.copytree(files / "run", files / name)
    (files / "empty/model_final.pth").unlink()
    (files / "empty/last_checkpoint").unlink()
    (files / "damaged/model_final.pth").write_bytes(b"no checkpoint")
    checkpoint = torch.load(files / "shorter/model_final.pth", weights_only=True)
    del checkpoint["model"]["backbone.fpn_lateral3.weight"]
    torch.save(checkpoint, files / "shorter/model_final.pth")
    (files / "other/config.yaml").write_text("MODEL: 3\n")
    (files / "bad.pt").write_bytes(b"no script")
    return files


@pytest.mark.parametrize(
    "teacher, weights, feature, message",
    [
        ("", "", "", "TEACHER is empty, but .*WEIGHT is above 0: name a network of timm, the folder"),
        ("vit_tiny_patch16_225", "x", "", "has no network 'vit_tiny_patch16_225': did you mean vit_tiny_patch16_224"),
        (VIT, "", "", "WEIGHTS is empty, and a teacher with random weights teaches nothing: name a file .*tch16_224"),
        (VIT, "missing.pth", "", "the teacher cannot be loaded: There is no checkpoint .*missing.pth"),
        (VIT, "{}/small.pth", "", "cannot be loaded: .*small.pth.*; set MODEL.PIXPRO.DISTILL.TEACHER to the network"),
        (VIT, "{}/vit.pth", "res4", "FEATURE names 'res4', but vit_tiny_patch16_224 has last_feat: choose from"),
        ("{}/run", "", "res9", "FEATURE is 'res9', but the backbone of .*model_final.pth has p3, .*res5: choose from"),
        ("{}/run", "x.pth", "", "WEIGHTS is for networks of timm only, .*run has weights of its own"),
        ("{}/no/run", "", "", "TEACHER is .*no/run, but there is no such folder: name"),
        ("{}", "", "", "is not the folder of a run: it has no config.yaml"),
        ("{}/empty", "", "", "empty has no checkpoint yet"),
        ("{}/other", "", "", "config.yaml is no config of a run"),
        ("{}/damaged", "", "", "the teacher cannot be loaded: .*model_final.pth is not a readable checkpoint"),
        ("{}/shorter", "", "p4", "lacks 1 of the teacher's weights, such as backbone.fpn_lateral3.weight: name a file"),
        ("{}/script.ts", "", "res4", "FEATURE is 'res4', but a TorchScript file gives one map"),
        ("{}/no.pt", "", "", "no.pt, but there is no such file"),
        ("{}/bad.pt", "", "", "bad.pt is no TorchScript file: save the network by torch.jit.script"),
    ],
)
def test_wrong_teachers(wrong, teacher, weights, feature, message):
    with pytest.raises(UsageError, match=rf"^MODEL\.PIXPRO\.DISTILL.*{message}.*") as caught:
        open_teacher(teacher.format(wrong), weights.format(wrong), feature)
    assert "\n" not in str(caught.value)


def test_a_view_that_the_patches_do_not_fill(files):
    opts = (f"{DISTILL}.TEACHER", VIT, f"{DISTILL}.WEIGHTS", str(files / "vit.pth"), "INPUT.PIXPRO.CROP_SIZE", 72)
    message = r"^INPUT.PIXPRO.CROP_SIZE is 72, but the teacher .* needs a multiple of 16: choose .* such as 96\.$"
    with pytest.raises(UsageError, match=message):
        build_teacher(configs.tiny(*opts))


@pytest.mark.parametrize("name", ["vit_small_patch14_dinov2.lvd142m", "vit_small_patch14_reg4_dinov2.lvd142m"])
def test_dinov2_in_the_layout_of_its_authors(tmp_path, monkeypatch, name):
    """A narrow network with all the names of the release, embeddings for 518 pixels, and views of 16 x 16 patches."""
    small = functools.partial(timm.create_model, embed_dim=16, depth=2, num_heads=2)
    monkeypatch.setattr(timm, "create_model", small)
    backbone = TimmBackbone(name).eval()
    timm_helpers.randomize(backbone.net)
    torch.save(timm_helpers.official_dinov2(backbone.net.state_dict()), tmp_path / "dinov2_vits14_pretrain.pth")
    opts = (f"{DISTILL}.TEACHER", name, f"{DISTILL}.WEIGHTS", str(tmp_path / "dinov2_vits14_pretrain.pth"))
    teacher = build_teacher(configs.tiny(*opts, "INPUT.PIXPRO.CROP_SIZE", 224))
    images = torch.rand(1, 3, 224, 224)
    with torch.no_grad():
        want = backbone(images)["last_feat"]
        torch.testing.assert_close(teacher.network(images), want, atol=1e-4, rtol=1e-4)
    assert want.shape == (1, 16, 16, 16) and teacher.conversion.is_identity
    with pytest.raises(UsageError, match="CROP_SIZE is 96, .* needs a multiple of 14: .* such as 224"):
        build_teacher(configs.tiny(*opts, "INPUT.PIXPRO.CROP_SIZE", 96))


def test_the_input_of_a_file_counts(files, tmp_path):
    """DINO's pairs of student and teacher take ImageNet's input, timm's own weights of this network 0.5 and 0.5."""
    state = torch.load(files / "vit.pth", weights_only=True)
    pair = {"student": {f"backbone.{key}": x + 1 for key, x in state.items()}}
    torch.save({**pair, "teacher": {f"backbone.{key}": x for key, x in state.items()}}, tmp_path / "dino.pth")
    assert tuple(open_teacher(VIT, str(tmp_path / "dino.pth"), "").input.pixel_mean) == (123.675, 116.28, 103.53)
    assert tuple(open_teacher(VIT, str(files / "vit.pth"), "").input.pixel_mean) == (127.5, 127.5, 127.5)


def test_without_timm(monkeypatch):
    def missing():
        raise UsageError("Networks of timm need timm: run pip install 'pixpro_d2[timm]'.")

    monkeypatch.setattr(timm_backbone, "import_timm", missing)
    with pytest.raises(UsageError, match=f"^{DISTILL}: Networks of timm need timm"):
        open_teacher(VIT, "x.pth", "")
