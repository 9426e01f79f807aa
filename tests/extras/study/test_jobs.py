"""Several experiments at a time: their order, their share of the processor, and what a failure leaves."""

import os

import pytest

from pixpro_d2.extras.study.experiments import Experiment
from pixpro_d2.extras.study.jobs import run_all, time_left
from pixpro_d2.utils.errors import UsageError
from pixpro_d2.utils.files import read_json

# Stands for train_net.py: notes when it begins and ends, and its threads; takes the seconds of SOLVER.MAX_ITER. With
# some configs it first waits, for at most a minute, until something else is noted.
PROGRAM = """
import os, pathlib, signal, sys, time
value = lambda key: sys.argv[sys.argv.index(key) + 1]
folder = pathlib.Path(value("OUTPUT_DIR"))
def end(*_):
    (folder / "asked").touch()
    sys.exit(75)
signal.signal(signal.SIGTERM, end)
def note(word):
    with open(folder.parent / "events", "a") as file:
        print(word, folder.name, os.environ.get("OMP_NUM_THREADS"), file=file)
note("begin")
config, deadline = value("--config-file"), time.monotonic() + 60
awaited = {"failing.yaml": "begin b", "waiting.yaml": "end of_second"}.get(config, "")
while awaited not in (folder.parent / "events").read_text() and time.monotonic() < deadline:
    time.sleep(0.05)
if config == "failing.yaml":
    sys.exit(3)
time.sleep(float(value("SOLVER.MAX_ITER")))
(folder / "metrics.json").write_text('{"iteration": 1, "total_loss": 1.0}\\n')
note("end")
"""


@pytest.fixture(autouse=True)
def program(tmp_path, monkeypatch):
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    monkeypatch.setattr("pixpro_d2.extras.study.running.LAUNCHER", (str(path),))


def experiment(name, seconds=0.0, weights=None, config="a.yaml"):
    return Experiment(name, config, {"SOLVER.MAX_ITER": seconds}, weights, 3600.0, weights is None)


def events(output):
    return [line.split() for line in (output / "runs" / "events").read_text().splitlines()]


def test_an_experiment_waits_for_its_pretraining_and_lets_others_pass(tmp_path):
    first, second = experiment("first", config="waiting.yaml"), experiment("second")
    chain = [first, experiment("of_first", 0.0, first), second, experiment("of_second", 0.0, second)]
    said = []
    results = run_all(chain, tmp_path, 2, said.append)
    assert set(results) == {"first", "of_first", "second", "of_second"}
    happened = [tuple(words[:2]) for words in events(tmp_path)]
    assert happened.index(("begin", "second")) < happened.index(("end", "first"))
    for name in ("first", "second"):
        assert happened.index(("end", name)) < happened.index(("begin", f"of_{name}"))
    assert happened[-1] == ("end", "of_first")  # all else was done while the slow one ran
    assert [line.split()[0] for line in said if line[0] == "["] == ["[1/4]", "[2/4]", "[3/4]", "[4/4]"]
    assert said[-1].startswith("of_first took 0.0 min; about 0 min are left")


def test_jobs_share_the_processor(tmp_path, monkeypatch):
    for name in ("jobs", "running"):
        monkeypatch.setattr(f"pixpro_d2.extras.study.{name}.usable_cores", lambda: 5)
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    results = run_all([experiment("a"), experiment("b")], tmp_path / "two", 2, lambda line: None)
    assert {threads for *_, threads in events(tmp_path / "two")} == {"2"}
    assert results["a"]["machine"].startswith("2 of 5 cores of ")
    run_all([experiment("a")], tmp_path / "one", 1, lambda line: None)
    assert {threads for *_, threads in events(tmp_path / "one")} == {"7"}  # as the user has it


def test_a_failure_ends_what_runs_beside_it(tmp_path):
    chain = [experiment("a", config="failing.yaml"), experiment("b", 600.0), experiment("c")]
    with pytest.raises(UsageError, match="a ended with exit code 3"):
        run_all(chain, tmp_path, 2, lambda line: None)
    assert (tmp_path / "runs" / "b" / "asked").exists() and not (tmp_path / "runs" / "c").exists()
    assert len(read_json(tmp_path / "runs" / "b" / "study.json")["attempts"]) == 1
    assert not (tmp_path / "results").exists()


def test_time_left():
    three = [experiment("a"), experiment("b"), experiment("c")]
    assert time_left(three, 2) == "about 1.5 hours"
    assert time_left(three, 6) == "about 30 min"


def test_nothing_to_run(tmp_path):
    assert run_all([], tmp_path, 2, print) == {} and os.listdir(tmp_path) == ["program.py"]
