"""A study of two iterations on rendered images, its interruption, and the command line."""

from dataclasses import replace

import pytest

from configs import TINY
from pixpro_d2.errors import UsageError
from pixpro_d2.json_files import read_json
from pixpro_d2.study import recipes
from pixpro_d2.study.data import StudyData
from pixpro_d2.tools import study
from pixpro_d2.tools.render import render_dataset

SMALL = dict(zip(TINY[::2], TINY[1::2]))
DETECTOR = {
    "SOLVER.IMS_PER_BATCH": 2, "SOLVER.STEPS": "()", "MODEL.FPN.OUT_CHANNELS": 32, "DATALOADER.NUM_WORKERS": 0,
    "INPUT.MIN_SIZE_TRAIN": "(64,)", "INPUT.MIN_SIZE_TEST": 64, "MODEL.ROI_HEADS.SCORE_THRESH_TEST": 0.0,
}  # fmt: skip


@pytest.fixture
def tiny(monkeypatch):
    """The part "levels" made small: one pre-training, two fine-tunings, of two iterations, on three labelled images."""
    cpu = recipes.CPU.recipes
    small = {
        "images": replace(cpu["images"], iterations=2, options={**cpu["images"].options, **SMALL}),
        "detection": replace(cpu["detection"], iterations=2, options={**cpu["detection"].options, **DETECTOR}),
    }
    part = replace(recipes.PARTS["levels"], variants={"3": ("random", "pixpro")})
    monkeypatch.setitem(recipes.PARTS, "levels", part)
    monkeypatch.setitem(recipes.TASKS["detection"].variants, "3", "3 images")
    monkeypatch.setitem(recipes.SCALES, "cpu", recipes.Scale(small, {}))


def command(tmp_path, *further):
    study.main([
        str(tmp_path / "out"), "--parts", "levels", "--seeds", "0", "--detection", f"voc:{tmp_path / 'scenes'}",
        "--images", f"images:{tmp_path / 'scenes' / 'JPEGImages'}", "--page", str(tmp_path / "study.md"), *further,
    ])  # fmt: skip


@pytest.mark.slow
def test_a_study(tiny, tmp_path, capsys):
    render_dataset(tmp_path / "scenes", train=4, test=2, size=64, layouts=("voc",))
    command(tmp_path)
    said = capsys.readouterr().out
    assert said.startswith("3 of 3 experiments to run, about 0.0 hours")
    assert said.count("; about 0.0 hours are left") == 3
    results = {path.stem: read_json(path) for path in (tmp_path / "out" / "results").iterdir()}
    assert set(results) == {"pretrain-pixpro", "detection-random-3-seed0", "detection-pixpro-3-seed0"}
    fine = results["detection-pixpro-3-seed0"]
    assert fine["name"] == "detection-pixpro-3-seed0" and fine["seconds"] > 0 and not fine["resumed"]
    assert "bbox/AP" in fine["metrics"] and "PyTorch" in fine["machine"]
    assert "runs/pretrain-pixpro/model_final.pth" in fine["command"] and "train_3_seed0" in fine["command"]
    assert "total_loss" in results["pretrain-pixpro"]["metrics"]
    first = (tmp_path / "study.md").read_text()
    assert first.count("3 images") == 2

    # Finished experiments do not run again; one whose result is missing goes on from its last checkpoint.
    path = tmp_path / "out" / "results" / "detection-pixpro-3-seed0.json"
    path.unlink()
    command(tmp_path)
    assert capsys.readouterr().out.startswith("1 of 3 experiments to run")
    again = read_json(path)
    assert again["resumed"] and again["seconds"] > fine["seconds"]
    assert again["metrics"]["bbox/AP"] == fine["metrics"]["bbox/AP"]
    assert again["command"] == fine["command"]

    with pytest.raises(SystemExit, match="error: .*with other options or data"):
        command(tmp_path, "--images", f"images:{tmp_path / 'scenes'}")
    for path in (tmp_path / "out" / "data").rglob("*.txt"):  # the report needs the results alone
        path.unlink()
    study.main([str(tmp_path / "out"), "--report", "--page", str(tmp_path / "other" / "study.md")])
    assert (tmp_path / "other" / "study.md").read_text().count("3 images") == 2


def test_a_failure_names_the_experiment_and_its_log(tiny, tmp_path, monkeypatch):
    render_dataset(tmp_path / "scenes", train=4, test=2, size=64, layouts=("voc",))
    monkeypatch.setattr("pixpro_d2.study.running.PROGRAM", "no_such_program.py")
    data = StudyData(tmp_path / "data", (), tmp_path / "scenes")
    with pytest.raises(UsageError, match="pretrain-pixpro ended with exit code 2: see .*pretrain-pixpro.log"):
        study.run_study(tmp_path, data, ["levels"], [0], recipes.SCALES["cpu"], announce=lambda line: None)
    assert "no_such_program" in (tmp_path / "runs" / "pretrain-pixpro.log").read_text()
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--parts", "labels"], "name a data set by --detection voc:DIR"),
        (["--parts", "labels", "--detection", "coco:x"], "--detection is 'coco:x'; it takes voc:DIR"),
        (["--parts", "video", "--images", "images:none"], "--images is 'images:none'; it takes images:DIR"),
        (["--parts", "video", "--seeds", "-1"], "seeds are not negative"),
        (["--report"], "no result of fine-tuning"),
    ],
)
def test_refused(tmp_path, words, message):
    with pytest.raises(SystemExit, match=f"error: .*{message}"):
        study.main([str(tmp_path / "out"), *words])
    assert not list(tmp_path.iterdir())
