"""Publishing: weights and where they come from, nothing else."""

import hashlib
import os
import shutil
import subprocess

import pytest
import torch
import yaml
from detectron2.modeling import build_model

import configs
import pixpro_d2
from pixpro_d2.checkpoint import InputConvention, PixProCheckpointer
from pixpro_d2.checkpoint.initialize import initialize
from pixpro_d2.extras import publishing
from pixpro_d2.extras.publishing import publish
from pixpro_d2.monitoring.run_record import record_start
from pixpro_d2.tools.publish import main
from pixpro_d2.utils.errors import UsageError
from pixpro_d2.utils.machine import commit_of, describe_machine


@pytest.fixture(scope="module")
def cfg():
    return configs.tiny("DATASETS.TRAIN", ("images:a", "images:b"))


@pytest.fixture(scope="module")
def run(cfg, tmp_path_factory):
    """(model, checkpoint) of a run as train_net.py leaves it."""
    folder = tmp_path_factory.mktemp("run")
    model = build_model(cfg)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    PixProCheckpointer(model, str(folder), optimizer=optimizer).save("model_final", iteration=99)
    (folder / "config.yaml").write_text(cfg.dump())
    return model, folder / "model_final.pth"


def test_weights_and_metadata(run, cfg, tmp_path):
    model, checkpoint = run
    path, metadata = publish(str(checkpoint), str(tmp_path / "pixpro.pth"), licence="CC0-1.0", commit="abc")
    loaded = torch.load(path, weights_only=True)
    assert set(loaded) == {"model", "input", "metadata"} and loaded["metadata"] == metadata
    expected = model.state_dict()
    assert set(loaded["model"]) == set(expected)
    assert all(torch.equal(value, expected[name]) for name, value in loaded["model"].items())
    assert loaded["input"] == InputConvention.from_config(cfg).to_dict()
    assert yaml.safe_load(metadata.pop("config")) == yaml.safe_load(cfg.dump())
    assert metadata == {
        "iterations": 100,
        "datasets": ["images:a", "images:b"],
        "git_commit": "abc",
        "licence": "CC0-1.0",
    }


def test_the_name_has_the_files_hash_and_downstream_takes_it(run, tmp_path):
    model, checkpoint = run
    path, _ = publish(str(checkpoint), str(tmp_path / "pixpro.pth"), commit="abc")
    (file,) = tmp_path.iterdir()
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    assert str(file) == path and file.name == f"pixpro-{digest[:8]}.pth"
    detector_cfg = configs.tiny(config="voc/faster_rcnn_R_18_FPN_small.yaml")
    detector = build_model(detector_cfg)
    convention = InputConvention.from_config(detector_cfg)
    initialize(detector, path, convention=convention, frozen=True)
    assert torch.equal(detector.backbone.bottom_up.stem.conv1.weight, model.backbone.bottom_up.stem.conv1.weight)


def test_command_line_publishes_beside_the_checkpoint(run, capsys):
    _, checkpoint = run
    main([str(checkpoint), "--commit", "abc"])
    (published,) = checkpoint.parent.glob("model_final-*.pth")
    output = capsys.readouterr().out
    assert output.startswith(f"{published}: iterations 100, datasets ['images:a', 'images:b'], git_commit abc")
    assert "licence Apache-2.0" in output


def git(folder, *words):
    command = ["git", "-C", str(folder), "-c", "user.name=a", "-c", "user.email=a@b", *words]
    env = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}  # no hooks or keys of the user
    return subprocess.run(command, check=True, capture_output=True, text=True, env=env).stdout.strip()


@pytest.fixture
def checkout(tmp_path):
    """A repository with this module, a tag, and an ignored environment in which the module is installed too."""
    for folder in (tmp_path / "repo/pixpro_d2", tmp_path / "repo/.venv/pixpro_d2"):
        folder.mkdir(parents=True)
        (folder / "publish.py").touch()
    (tmp_path / "repo/.gitignore").write_text(".venv")
    for words in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "x"], ["tag", "-a", "v1", "-m", "x"]):
        git(tmp_path / "repo", *words)
    return tmp_path / "repo"


def test_commit_is_that_of_the_checkout(run, checkout, tmp_path, monkeypatch):
    head = git(checkout, "rev-parse", "HEAD")
    monkeypatch.setattr(publishing, "__file__", str(checkout / "pixpro_d2/publish.py"))
    assert publish(str(run[1]), str(tmp_path / "a.pth"))[1]["git_commit"] == head
    (checkout / "pixpro_d2/publish.py").write_text("changed")
    assert commit_of(str(checkout / "pixpro_d2/publish.py")) == f"{head}-dirty"


def test_commit_of_another_repository_is_not_taken(run, checkout, tmp_path, monkeypatch):
    (tmp_path / "publish.py").touch()
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    for file in (checkout / ".venv/pixpro_d2/publish.py", tmp_path / "publish.py"):
        assert commit_of(str(file)) is None
        monkeypatch.setattr(publishing, "__file__", str(file))
        with pytest.raises(UsageError, match="run.json nor a git checkout tells .*: name .* --commit"):
            publish(str(run[1]), str(tmp_path / "b.pth"))
    monkeypatch.setenv("PATH", "")
    assert commit_of(str(checkout / "pixpro_d2/publish.py")) is None


def test_names_of_classes_are_kept(run, cfg, tmp_path):
    model, _ = run
    (tmp_path / "config.yaml").write_text(cfg.dump())
    PixProCheckpointer(model, str(tmp_path), classes=["cat", "dog"]).save("model_final", iteration=1)
    path, _ = publish(str(tmp_path / "model_final.pth"), commit="abc")
    assert torch.load(path, weights_only=True)["classes"] == ["cat", "dog"]


def test_the_run_tells_the_commit_of_its_training(run, tmp_path, monkeypatch):
    """Neither a later evaluation nor this checkout replaces it."""
    shutil.copytree(run[1].parent, tmp_path / "run")
    checkpoint = tmp_path / "run/model_final.pth"
    for command, commit in (("train", "first"), ("train --resume", "second"), ("train --eval-only", "third")):
        record_start(tmp_path / "run", command, {"commit": commit})
    assert publish(str(checkpoint))[1]["git_commit"] == "second"
    record_start(tmp_path / "run", "train --resume", {})  # by an earlier version
    monkeypatch.setattr(publishing, "commit_of", lambda file: "of the checkout")
    assert publish(str(checkpoint))[1]["git_commit"] == "of the checkout"
    record_start(tmp_path / "run", "train --resume", {"commit": None})
    with pytest.raises(UsageError, match="name the commit that trained the weights with --commit"):
        publish(str(checkpoint))


def test_a_run_of_an_installed_package_tells_its_version(run, tmp_path, monkeypatch):
    monkeypatch.setattr("pixpro_d2.utils.machine.commit_of", lambda file: None)
    shutil.copytree(run[1].parent, tmp_path / "run")
    record_start(tmp_path / "run", "train", describe_machine(torch.device("cpu")))
    assert publish(str(tmp_path / "run/model_final.pth"))[1]["git_commit"] == f"pixpro_d2 {pixpro_d2.__version__}"


def test_mistakes(run, tmp_path):
    _, checkpoint = run
    torch.save({"model": {"w": torch.zeros(1)}}, tmp_path / "weights.pth")
    with pytest.raises(UsageError, match="weights.pth is no checkpoint of a run: it needs entries 'model' and 'iter"):
        publish(str(tmp_path / "weights.pth"))
    torch.save({"model": {}, "iteration": 1}, tmp_path / "moved.pth")
    with pytest.raises(UsageError, match="There is no config .*config.yaml: name the run's with --config-file"):
        publish(str(tmp_path / "moved.pth"))
    torch.save({"model": {"w": torch.tensor(float("nan"))}, "iteration": 1}, tmp_path / "nan.pth")
    with pytest.raises(UsageError, match=r"nan.pth has infinite or NaN values .*\(w is the first"):
        publish(str(tmp_path / "nan.pth"))
    with pytest.raises(UsageError, match="out.pkl must end in .pth or .pt"):
        publish(str(checkpoint), "out.pkl")
    with pytest.raises(SystemExit, match="^error: There is no checkpoint"):
        main(["none.pth"])
