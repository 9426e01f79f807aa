"""Finding and reading runs."""

import copy

import pytest
from report_helpers import COMMAND, CONFIG, healthy_lines, write_run

from pixpro_d2.extras.report.runs import find_runs, read_run, short_names
from pixpro_d2.utils.errors import UsageError


def test_folders_of_runs_are_opened_and_each_run_counts_once(tmp_path):
    for name in ("b", "a"):
        write_run(tmp_path / "runs" / name)
    (tmp_path / "runs/other").mkdir()
    paths = [(tmp_path / "runs" / name).resolve() for name in ("a", "b")]
    assert find_runs([tmp_path / "runs"]) == paths
    assert find_runs([tmp_path / "runs/b", tmp_path / "runs"]) == paths[::-1]


def test_folders_without_a_run_are_named(tmp_path):
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(UsageError, match=f"no run in {folder}: name the OUTPUT_DIR"):
            find_runs([folder])
    with pytest.raises(UsageError, match=f"no run in {folder}: name"):
        find_runs([write_run(tmp_path / "run"), folder])


def test_entries_without_a_run_are_skipped_and_named(tmp_path, capsys):
    """As of `report output/*`, with an earlier report, an empty folder, a run, and a folder of runs."""
    for name in ("a", "b/c", "d/e/f/too_deep"):
        write_run(tmp_path / name)
    (tmp_path / "empty").mkdir()
    (tmp_path / "report.html").touch()
    paths = [(tmp_path / name).resolve() for name in ("a", "b/c")]
    assert find_runs([tmp_path]) == paths and capsys.readouterr().err == ""
    assert find_runs([tmp_path / name for name in ("a", "b", "empty", "report.html")]) == paths
    named = f"{tmp_path / 'empty'}, {tmp_path / 'report.html'}"
    assert capsys.readouterr().err == f"Skipped, because there is no run: {named}\n"


def test_names_are_as_short_as_they_tell_runs_apart():
    assert short_names(["/x/a", "/x/b"]) == ["a", "b"]
    assert short_names(["/x/1/a", "/x/2/a", "/x/2/b"]) == ["1/a", "2/a", "2/b"]


def test_what_a_run_knows_of_itself(tmp_path):
    run = read_run(write_run(tmp_path / "run", healthy_lines()), "run")
    assert run.key("MODEL.RESNETS.DEPTH") == 18 and run.key("MODEL.RESNETS.DEPTH.X", 5) == 5 and run.key("Y") is None
    assert run.is_pretraining and run.iterations == 200 and run.is_finished and run.remarks == []
    assert [start["command"] for start in run.starts] == [COMMAND]
    assert not read_run(write_run(tmp_path / "short", healthy_lines(9)), "short").is_finished
    (tmp_path / "short/model_final.pth").touch()  # of an earlier run of fewer iterations
    assert not read_run(tmp_path / "short", "short").is_finished
    (tmp_path / "short/config.yaml").unlink()
    assert read_run(tmp_path / "short", "short").is_finished


def test_without_a_config_the_target_branch_tells_pretraining(tmp_path):
    run = read_run(write_run(tmp_path / "run", healthy_lines(), config={}), "run")
    assert run.is_pretraining and not run.is_finished and "no readable config.yaml" in run.remarks[0]
    config = copy.deepcopy(CONFIG)
    config["MODEL"]["META_ARCHITECTURE"] = "GeneralizedRCNN"
    assert not read_run(write_run(tmp_path / "detector", healthy_lines(), config), "detector").is_pretraining


def test_missing_and_damaged_files_are_remarked(tmp_path):
    folder = write_run(tmp_path / "run", healthy_lines(2))
    with open(folder / "metrics.json", "a") as file:
        file.write('{"iteration": 5')
    (folder / "config.yaml").write_text("a: [")
    (folder / "run.json").write_text("{")
    (folder / "log.txt").unlink()
    run = read_run(folder, "run")
    assert [remark.split(",")[0] for remark in run.remarks] == [
        "1 damaged lines of metrics.json were skipped.",
        "There is no readable config.yaml",
        "There is no readable run.json",
        "There is no log.txt",
    ]
    (folder / "metrics.json").unlink()
    assert "no metrics.json" in read_run(folder, "run").remarks[0]
