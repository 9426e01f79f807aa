"""Weights that come with the package: their short names, their card, and a start from them."""

import hashlib
import re
from argparse import Namespace
from pathlib import Path

import pytest
import torch
from data_helpers import logged
from detectron2.modeling import build_model

import configs
from pixpro_d2.api import load_backbone
from pixpro_d2.checkpoint import PixProCheckpointer
from pixpro_d2.checkpoint.convention import TORCHVISION
from pixpro_d2.checkpoint.conversion import convert
from pixpro_d2.checkpoint.initialize import initialize
from pixpro_d2.cli import main
from pixpro_d2.engine.configuration.configure import load_config
from pixpro_d2.engine.configuration.resumed_run import warn_of_another_model
from pixpro_d2.extras.deployment.network import load_network
from pixpro_d2.extras.scenes.render_dataset import render_dataset
from pixpro_d2.utils.errors import UsageError
from pixpro_d2.weights_files import SUFFIX, weights_folder, weights_names, weights_path

CARD = Path(__file__).resolve().parents[1] / "weights" / "README.md"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Model of a pre-training on the FPN of a ResNet-18, and the folder of its float16 weights ``r18_fpn``."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(5)
    model = build_model(configs.tiny())
    PixProCheckpointer(model, str(folder), convention=TORCHVISION).save("model_final")
    convert(str(folder / "model_final.pth"), str(folder / "r18_fpn.safetensors"), "safetensors", half=True)
    return model, folder


@pytest.fixture
def package(trained, tmp_path, monkeypatch):
    """The same, with the folder as the package's, in an empty working folder."""
    monkeypatch.setattr("pixpro_d2.weights_files.folder_of_package", lambda name: trained[1])
    monkeypatch.chdir(tmp_path)
    return trained


def test_a_short_name_in_any_folder(package):
    _, folder = package
    assert weights_names() == ["r18_fpn"] and weights_path("r18_fpn") == f"{folder}/r18_fpn.safetensors"
    assert [weights_path(name) for name in ("", "r50", "a/r18_fpn.pth", "detectron2://r18_fpn")] == [
        "", "r50", "a/r18_fpn.pth", "detectron2://r18_fpn",
    ]  # fmt: skip


def test_a_file_of_the_users_comes_first(package):
    Path("r18_fpn").touch()
    assert weights_path("r18_fpn") == "r18_fpn"


def test_a_model_starts_from_them(package):
    model, _ = package
    other = build_model(configs.tiny("MODEL.PIXPRO.PPM.ENABLED", False))
    done = initialize(other, "r18_fpn", convention=TORCHVISION)
    assert done.path == "r18_fpn" and "r18_fpn" in done.summary
    expected = {name: value.half().float() for name, value in model.backbone.named_parameters()}
    assert all(torch.equal(value, expected[name]) for name, value in other.backbone.named_parameters())


def test_networks_for_other_code(package):
    model, _ = package
    Path("config.yaml").write_text("[not of these weights")
    stem = model.backbone.bottom_up.stem.conv1.weight
    assert torch.equal(load_backbone("r18_fpn").conv1.weight, stem.half().float())
    assert load_network("r18_fpn").names == ["p3", "p4", "p5", "p6"]


def test_a_config_in_the_working_folder_is_not_theirs(package):
    Path("config.yaml").write_text(configs.tiny("MODEL.FPN.OUT_CHANNELS", 64).dump())
    args = configs.tiny("MODEL.WEIGHTS", "r18_fpn"), load_config("", []), Namespace(eval_only=True, resume=False)
    with logged("pixpro_d2") as messages:
        warn_of_another_model(*args)
        assert not messages
        Path("r18_fpn").touch()  # a checkpoint of the user, beside the config of its training
        warn_of_another_model(*args)
    assert any("MODEL.FPN.OUT_CHANNELS was 64" in message for message in messages)


def test_finetune_takes_a_short_name(package, capsys):
    render_dataset(Path("scenes"), train=4, test=2, size=64, layouts=("voc",))
    main(["finetune", "r18_fpn", "--task", "detection", "--data", "voc:scenes@train", "--dry-run"])
    assert "into output/r18_fpn_detection." in capsys.readouterr().out
    with pytest.raises(SystemExit, match=r"checkpoint .*r18fpn: check the path \(weights of the package: r18_fpn\)"):
        main(["finetune", "r18fpn", "--task", "detection", "--data", "voc:scenes@train"])


def test_a_typing_mistake_is_answered_with_the_names(package):
    hint = r"\(weights of the package: r18_fpn\)"
    with pytest.raises(UsageError, match=rf"There is no checkpoint {Path.cwd()}/r18fpn {hint}\.$"):
        initialize(build_model(configs.tiny()), "r18fpn")
    with pytest.raises(UsageError, match=rf"There is no checkpoint {Path.cwd()}/a\.pth\.$"):
        initialize(build_model(configs.tiny()), "a.pth")


def test_the_card_has_the_checksum_of_each_file():
    files = sorted(weights_folder().glob(f"*{SUFFIX}"))
    sums = re.findall(r"`(\w+)\.safetensors`.*?`([0-9a-f]{64})`", CARD.read_text(), re.DOTALL)
    assert files and sums == [(file.stem, hashlib.sha256(file.read_bytes()).hexdigest()) for file in files]
