"""The command line of convert."""

import pytest
import torch
from detectron2.modeling import build_model

import configs
from pixpro_d2.checkpoint import PixProCheckpointer
from pixpro_d2.checkpoint.convention import TORCHVISION
from pixpro_d2.checkpoint.conversion import SUFFIXES
from pixpro_d2.tools.convert import FORMATS, ONNX, main


@pytest.fixture(scope="module")
def pyramid(tmp_path_factory):
    """Path of the checkpoint of a pre-training on the FPN of a ResNet-18."""
    folder = tmp_path_factory.mktemp("fpn")
    PixProCheckpointer(build_model(configs.tiny()), str(folder), convention=TORCHVISION).save("model_final")
    return str(folder / "model_final.pth")


def test_all_formats_are_offered():
    assert (*SUFFIXES, ONNX) == FORMATS


def test_command_line(pyramid, tmp_path, capsys):
    main([pyramid, str(tmp_path / "out.pth"), "--to", "timm", "--hash"])
    (out,) = tmp_path.iterdir()
    assert out.name.startswith("out-") and len(out.stem) == len("out-12345678")
    line = capsys.readouterr().out
    assert line.startswith(f"{out}: timm format, resnet18 of 120 tensors: the online branch of {pyramid}")
    main([pyramid, str(tmp_path / "fpn.pth"), "--to", "torchvision", "--with-fpn"])
    assert "FPN of 36 tensors:" in capsys.readouterr().out
    main([pyramid, str(tmp_path / "plain.pkl"), "--to", "detectron2", "--without-fpn"])
    assert "without its FPN of 36 tensors" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="^error: There is no checkpoint"):
        main(["none.pth", str(tmp_path / "out.pth"), "--to", "timm"])


def test_without_its_packages_onnx_says_how_to_get_them(pyramid, tmp_path, monkeypatch):
    monkeypatch.setattr("pixpro_d2.extras.deployment.onnx.find_spec", lambda name: None)
    with pytest.raises(SystemExit, match="^error: --to onnx needs onnx and onnxscript: run `pip install onnx"):
        main([pyramid, str(tmp_path / "out.onnx"), "--to", "onnx"])


def test_half_is_passed_on_and_not_for_onnx(pyramid, tmp_path):
    main([pyramid, str(tmp_path / "full.pth"), "--to", "timm"])
    main([pyramid, str(tmp_path / "half.pth"), "--to", "timm", "--half"])
    full, half = (torch.load(tmp_path / name)["conv1.weight"] for name in ("full.pth", "half.pth"))
    assert full.dtype == torch.float32 and torch.equal(half, full.half())
    with pytest.raises(SystemExit, match="^error: --half is not for onnx"):
        main([pyramid, str(tmp_path / "out.onnx"), "--to", "onnx", "--half"])


@pytest.mark.slow
def test_onnx(pyramid, tmp_path, capsys):
    for name in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(name)
    main([pyramid, str(tmp_path / "out.onnx"), "--to", "onnx"])
    line = capsys.readouterr().out
    assert "outputs p3, p4, p5, p6; within " in line and line.startswith(f"{tmp_path}/out.onnx: ONNX graph of the ")
    assert [path.name for path in tmp_path.iterdir()] == ["out.onnx"]
