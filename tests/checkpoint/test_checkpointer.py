"""Saving, loading and the errors of MODEL.WEIGHTS, on real models."""

import os
import pickle

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model

import configs
from pixpro_d2.checkpoint import PixProCheckpointer
from pixpro_d2.errors import UsageError

DETECTOR = "voc/faster_rcnn_R_18_FPN_small.yaml"


def build(config="pretrain/quickstart.yaml", *opts):
    return build_model(configs.tiny(*opts, config=config))


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pretrained")
    torch.manual_seed(3)
    model = build()
    PixProCheckpointer(model, str(folder)).save("model_final", iteration=7)
    return model, str(folder / "model_final.pth")


@pytest.fixture
def log(monkeypatch):
    lines = []
    monkeypatch.setattr(
        "fvcore.common.checkpoint.logging.Logger.info",
        lambda self, message, *args, **kwargs: lines.append(str(message)),
    )
    return lines


def test_detector_takes_a_pretraining_checkpoint_and_says_so_in_one_line(pretrained, log):
    model, path = pretrained
    detector = build(DETECTOR)
    PixProCheckpointer(detector).resume_or_load(path, resume=False)
    own, theirs = detector.state_dict(), model.state_dict()
    shared = [name for name in own if name.startswith("backbone.") and name in theirs]
    assert len(shared) > 100 and all(torch.equal(own[name], theirs[name]) for name in shared)
    (line,) = [line for line in log if line.startswith("Backbone:")]
    assert "20 of 20 convolutions" in line and path in line
    for module in ("projector (9)", "ppm (2)", "target_backbone (", "target_projector (9)"):
        assert module in line


def test_resume_restores_everything_and_returns_the_rest(pretrained, tmp_path):
    model, path = pretrained
    checkpointer = PixProCheckpointer(model, str(tmp_path))
    checkpointer.save("model_0000009", iteration=9)
    other = build()
    rest = PixProCheckpointer(other, str(tmp_path)).resume_or_load("", resume=True)
    assert rest["iteration"] == 9
    for name, value in other.state_dict().items():
        assert torch.equal(value, model.state_dict()[name]), name


def test_a_failed_save_leaves_the_last_checkpoint(pretrained, tmp_path, monkeypatch):
    model, _ = pretrained
    checkpointer = PixProCheckpointer(model, str(tmp_path))
    checkpointer.save("model_final", iteration=1)

    def full_disk(data, path):
        with open(path, "wb") as file:
            file.write(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr(torch, "save", full_disk)
    with pytest.raises(OSError, match="No space"):
        checkpointer.save("model_final", iteration=2)
    assert PixProCheckpointer(model, str(tmp_path)).resume_or_load("", resume=True)["iteration"] == 1
    assert (tmp_path / "last_checkpoint").read_text() == "model_final.pth"


def test_weights_without_a_backbone_are_an_error(tmp_path):
    torch.save({"model": {"fc.weight": torch.zeros(2, 2)}}, tmp_path / "other.pth")
    with pytest.raises(UsageError, match=r"no weight of this model's backbone.*fc\.weight.*backbone\.bottom_up\.stem"):
        PixProCheckpointer(build(DETECTOR)).resume_or_load(str(tmp_path / "other.pth"), resume=False)


def test_partial_weights_are_an_error_unless_allowed(pretrained, tmp_path, log):
    model, _ = pretrained
    state = {name: value for name, value in model.state_dict().items() if ".res5." not in name}
    path = str(tmp_path / "partial.pth")
    torch.save({"model": state}, path)
    with pytest.raises(UsageError, match=r"only \d+ of the backbone's \d+ weights.*res5.*ALLOW_PARTIAL_WEIGHTS"):
        PixProCheckpointer(build(DETECTOR)).resume_or_load(path, resume=False)
    PixProCheckpointer(build(DETECTOR), allow_partial=True).resume_or_load(path, resume=False)
    assert any("15 of 20 convolutions" in line for line in log)


def test_another_depth_is_an_error(pretrained):
    _, path = pretrained
    with pytest.raises(UsageError, match="use the depth and options"):
        PixProCheckpointer(build(DETECTOR, "MODEL.RESNETS.DEPTH", 34)).resume_or_load(path, resume=False)


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 truncated zip"])
def test_damaged_files_are_named(content, tmp_path):
    path = tmp_path / "broken.pth"
    path.write_bytes(content)
    with pytest.raises(UsageError, match="broken.pth is not a readable checkpoint"):
        PixProCheckpointer(build()).resume_or_load(str(path), resume=False)


def test_truncated_checkpoint_is_named(pretrained, tmp_path):
    _, path = pretrained
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        (tmp_path / "cut.pth").write_bytes(file.read(size // 2))
    with pytest.raises(UsageError, match="cut.pth is not a readable checkpoint"):
        PixProCheckpointer(build()).resume_or_load(str(tmp_path / "cut.pth"), resume=False)


def test_missing_file_is_named():
    with pytest.raises(UsageError, match="There is no checkpoint .*no/such.pth"):
        PixProCheckpointer(build()).resume_or_load("no/such.pth", resume=False)


def caffe2_r18(model):
    """The online backbone in the naming of detectron2's model zoo pickles with matching heuristics."""
    prefix = "backbone.bottom_up."
    state = {name.removeprefix(prefix): v.numpy() for name, v in model.state_dict().items() if name.startswith(prefix)}
    return {"model": state, "__author__": "someone", "matching_heuristics": True}


def test_warm_start_from_a_pickle_does_not_trip_over_the_target_branch(pretrained, tmp_path):
    model, _ = pretrained
    with open(tmp_path / "R-18.pkl", "wb") as file:
        pickle.dump(caffe2_r18(model), file)
    other = build()
    before = other.target_backbone.bottom_up.stem.conv1.weight.clone()
    PixProCheckpointer(other).resume_or_load(str(tmp_path / "R-18.pkl"), resume=False)
    weight = other.backbone.bottom_up.stem.conv1.weight
    assert torch.equal(weight, model.backbone.bottom_up.stem.conv1.weight)
    assert torch.equal(other.target_backbone.bottom_up.stem.conv1.weight, before)
    other.reset_target()
    assert torch.equal(other.target_backbone.bottom_up.stem.conv1.weight, weight)


def test_checkpoints_hold_nothing_that_a_safe_loader_refuses(pretrained):
    _, path = pretrained
    loaded = torch.load(path, weights_only=True)
    assert loaded["iteration"] == 7 and all(isinstance(v, torch.Tensor) for v in loaded["model"].values())
    assert not any(isinstance(v, np.generic) for v in loaded.values())
