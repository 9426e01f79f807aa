"""A study of two iterations on rendered images, its interruption, and the command line."""

import re
from dataclasses import replace
from types import SimpleNamespace

import forked
import pytest

from configs import TINY
from pixpro_d2.extras.scenes.render_dataset import render_dataset
from pixpro_d2.extras.study import methods, recipes, running
from pixpro_d2.extras.study.data import StudyData
from pixpro_d2.extras.study.jobs import run_study
from pixpro_d2.tools import study
from pixpro_d2.utils.errors import UsageError
from pixpro_d2.utils.files import read_json

SMALL = dict(zip(TINY[::2], TINY[1::2]))
DETECTOR = {
    "SOLVER.IMS_PER_BATCH": 2, "SOLVER.STEPS": "()", "MODEL.FPN.OUT_CHANNELS": 32, "DATALOADER.NUM_WORKERS": 0,
    "INPUT.MIN_SIZE_TRAIN": "(64,)", "INPUT.MIN_SIZE_TEST": 64, "MODEL.ROI_HEADS.SCORE_THRESH_TEST": 0.0,
}  # fmt: skip


@pytest.fixture
def tiny(monkeypatch):
    """The part "cells" made small: one pre-training, two fine-tunings, of two iterations, on three labelled images."""
    small = {}
    for name, options in (("images", SMALL), ("cells", DETECTOR)):
        recipe = recipes.STUDY.recipes[name]
        small[name] = replace(recipe, iterations=2, options={**recipe.options, **options})
    part = replace(methods.PARTS["cells"], variants={"3": ("random", "pixpro")})
    monkeypatch.setitem(methods.PARTS, "cells", part)
    monkeypatch.setitem(methods.TASKS["cells"].variants, "3", "3 images")
    monkeypatch.setattr("pixpro_d2.tools.study.STUDY", recipes.Scale(small, {}))


def command(tmp_path, *further):
    study.main([
        str(tmp_path / "out"), "--parts", "cells", "--pretraining-seeds", "1", "--seeds", "0", "--cells",
        f"voc:{tmp_path / 'scenes'}", "--photographs", f"classes:{tmp_path / 'scenes'}", "--page",
        str(tmp_path / "study.md"), "--jobs", "2", *further,
    ])  # fmt: skip


@pytest.mark.slow
def test_a_study(tiny, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(running, "subprocess", SimpleNamespace(Popen=forked.popen, STDOUT=None))
    render_dataset(tmp_path / "scenes", train=4, test=2, size=64, layouts=("voc",))
    command(tmp_path)
    said = capsys.readouterr().out
    assert said.startswith("3 of 3 experiments to run, about 1 min")
    assert len(re.findall(r"; about \d+ min are left", said)) == 3
    results = {path.stem: read_json(path) for path in (tmp_path / "out" / "results").iterdir()}
    assert set(results) == {"pretrain-pixpro-seed1", "cells-random-3-seed1-0", "cells-pixpro-3-seed1-0"}
    fine = results["cells-pixpro-3-seed1-0"]
    assert fine["name"] == "cells-pixpro-3-seed1-0" and fine["seconds"] > 0 and not fine["resumed"]
    assert "bbox/AP" in fine["metrics"] and "PyTorch" in fine["machine"]
    assert "runs/pretrain-pixpro-seed1/model_final.pth" in fine["command"] and "train_3_seed100" in fine["command"]
    assert "total_loss" in results["pretrain-pixpro-seed1"]["metrics"]
    first = (tmp_path / "study.md").read_text()
    assert first.count("3 images |") == 2

    # Finished experiments do not run again; one whose result is missing does, and its time counts from the start.
    path = tmp_path / "out" / "results" / "cells-pixpro-3-seed1-0.json"
    path.unlink()
    command(tmp_path)
    assert capsys.readouterr().out.startswith("1 of 3 experiments to run")
    again = read_json(path)
    assert again["resumed"] and again["seconds"] > fine["seconds"]
    assert again["metrics"]["bbox/AP"] == fine["metrics"]["bbox/AP"]
    assert again["command"] == fine["command"]

    with pytest.raises(SystemExit, match="error: .*with other options or data"):
        command(tmp_path, "--photographs", f"classes:{tmp_path / 'scenes' / 'JPEGImages'}")
    for path in (tmp_path / "out" / "data").rglob("*.txt"):  # the report needs the results alone
        path.unlink()
    study.main([str(tmp_path / "out"), "--report", "--page", str(tmp_path / "other" / "study.md")])
    assert (tmp_path / "other" / "study.md").read_text().count("3 images |") == 2


def test_a_failure_names_the_experiment_and_its_log(tiny, tmp_path, monkeypatch):
    render_dataset(tmp_path / "scenes", train=4, test=2, size=64, layouts=("voc",))
    monkeypatch.setattr("pixpro_d2.extras.study.running.LAUNCHER", ("no_such_program.py",))
    data = StudyData(tmp_path / "data", photographs=tmp_path / "scenes", cells=tmp_path / "scenes")
    with pytest.raises(UsageError, match="cells-random-3-seed1-0 ended with exit code 2: see .*random-3-seed1-0.log"):
        run_study(tmp_path, data, ["cells"], ([1], [0]), study.STUDY, announce=lambda line: None)
    assert "no_such_program" in (tmp_path / "runs" / "cells-random-3-seed1-0.log").read_text()
    assert not (tmp_path / "results").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--parts", "cells"], "name them by --photographs classes:DIR"),
        (
            ["--parts", "cells", "--photographs", "classes:none"],
            "is 'classes:none'; it takes classes:DIR",
        ),
        (["--parts", "scenes", "--photographs", "classes:."], "name them by --scenes DIR"),
        (["--parts", "objects", "--photographs", "classes:.", "--objects", "coco:."], "'coco:.'; it takes voc:DIR"),
        (["--report"], "no result of fine-tuning"),
    ],
)
def test_refused(tmp_path, words, message):
    with pytest.raises(SystemExit, match=f"error: .*{message}"):
        study.main([str(tmp_path / "out"), *words])
    assert not list(tmp_path.iterdir())
