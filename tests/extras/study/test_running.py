"""What experiments leave: results that know what they are of, and the time of all attempts."""

import functools
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from pixpro_d2.extras.study.experiments import Experiment
from pixpro_d2.extras.study.jobs import run_all
from pixpro_d2.extras.study.running import is_finished, result_file
from pixpro_d2.utils.errors import UsageError
from pixpro_d2.utils.files import read_json

PRETRAINING = Experiment("pretrain-a", "a.yaml", {"SOLVER.MAX_ITER": 5}, None, 1.0, True)
FINE_TUNING = Experiment("detection-a", "b.yaml", {"SOLVER.MAX_ITER": 3}, PRETRAINING, 1.0, False)

# Stands for train_net.py: notes its command, leaves a checkpoint, fails as often as asked to, then has a result.
PROGRAM = """
import pathlib, sys, time
folder = pathlib.Path(sys.argv[sys.argv.index("OUTPUT_DIR") + 1])
with open(folder / "starts", "a") as file:
    print("--resume" in sys.argv, file=file)
time.sleep(0.3)
(folder / "model_0000001.pth").touch()
if len((folder / "starts").read_text().split()) <= {failures}:
    sys.exit(3)
time.sleep({seconds})
(folder / "metrics.json").write_text('{{"iteration": 2, "bbox/AP": 7.0}}\\n')
"""


def run(experiment, output):
    return run_all([experiment], output, 1, lambda line: None)[experiment.name]


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Function that puts the program there."""

    def write(failures=0, seconds=0):
        path = tmp_path / "program.py"
        path.write_text(PROGRAM.format(failures=failures, seconds=seconds))
        monkeypatch.setattr("pixpro_d2.extras.study.running.LAUNCHER", (str(path),))
        return path

    return write


def test_seconds_are_those_of_all_attempts(tmp_path, program):
    program(failures=2)
    for _ in range(2):
        with pytest.raises(UsageError, match="pretrain-a ended with exit code 3"):
            run(PRETRAINING, tmp_path)
        assert not is_finished(PRETRAINING, tmp_path)
    result = run(PRETRAINING, tmp_path)
    assert is_finished(PRETRAINING, tmp_path) and read_json(result_file(tmp_path, "pretrain-a")) == result
    attempts = read_json(tmp_path / "runs" / "pretrain-a" / "study.json")["attempts"]
    assert len(attempts) == 3 and min(attempts) >= 0.3 and result["seconds"] == pytest.approx(sum(attempts))
    assert result["resumed"] and result["metrics"] == {"bbox/AP": 7.0}
    assert result["command"].startswith("python train_net.py --config-file a.yaml SOLVER.MAX_ITER 5 MODEL.WEIGHTS ''")
    # A checkpoint is enough to go on from, whether or not last_checkpoint names it.
    assert (tmp_path / "runs" / "pretrain-a" / "starts").read_text().split() == ["False", "True", "True"]


def test_a_fine_tuning_is_of_its_pretraining(tmp_path, program):
    program()
    assert not run(FINE_TUNING, tmp_path)["resumed"] and is_finished(FINE_TUNING, tmp_path)
    other = replace(FINE_TUNING, weights=replace(PRETRAINING, options={"SOLVER.MAX_ITER": 6}))
    for experiment in (other, replace(FINE_TUNING, options={"SOLVER.MAX_ITER": 4})):
        with pytest.raises(UsageError, match="detection-a is of an earlier command with other options or data: remove"):
            is_finished(experiment, tmp_path)


def test_weights_that_nothing_begins_with_are_not_kept(tmp_path, program):
    program()
    run_all([PRETRAINING, FINE_TUNING], tmp_path, 1, lambda line: None)
    kept = {path.parent.name for path in (tmp_path / "runs").glob("*/model_*.pth")}
    assert kept == {"pretrain-a"} and (tmp_path / "runs" / "detection-a" / "metrics.json").exists()


def test_an_unfinished_fine_tuning_does_not_go_on_from_another_pretraining(tmp_path, program):
    program(failures=1)
    with pytest.raises(UsageError, match="exit code 3"):
        run(FINE_TUNING, tmp_path)
    assert not is_finished(FINE_TUNING, tmp_path)
    with pytest.raises(UsageError, match="is of an earlier command"):
        is_finished(replace(FINE_TUNING, weights=replace(PRETRAINING, config="c.yaml")), tmp_path)


DRIVER = """
import sys
from pathlib import Path
from pixpro_d2.utils.errors import UsageError
from pixpro_d2.utils.signals import requeue_when_stopped
from pixpro_d2.extras.study import running
from pixpro_d2.extras.study.experiments import Experiment
from pixpro_d2.extras.study.jobs import run_all

running.LAUNCHER = sys.argv[1:2]
try:
    with requeue_when_stopped():
        run_all([Experiment("pretrain-a", "a.yaml", {}, None, 1.0, True)], Path(sys.argv[2]), 1, print)
except UsageError as error:
    sys.exit(str(error))
"""


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 1), (signal.SIGTERM, os.EX_TEMPFAIL)])
def test_what_ends_the_study_ends_the_training_and_its_time_counts(tmp_path, program, sent, code):
    words = [sys.executable, "-c", DRIVER, str(program(seconds=600)), str(tmp_path)]
    # What runs in the background of a shell ignores SIGINT, and so would the driver.
    listening = functools.partial(signal.signal, signal.SIGINT, signal.default_int_handler)
    driver = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, preexec_fn=listening)
    folder = tmp_path / "runs" / "pretrain-a"
    wait_for(lambda: (folder / "model_0000001.pth").exists())
    training = child_of(driver.pid)
    driver.send_signal(sent)
    _, said = driver.communicate(timeout=60)
    assert driver.returncode == code and (sent != signal.SIGINT or "pretrain-a was interrupted: run" in said)
    assert not os.path.exists(f"/proc/{training}")
    assert read_json(folder / "study.json")["attempts"][0] >= 0.3


def test_a_training_that_outlives_its_study_is_not_joined_by_another(tmp_path, program):
    words = [sys.executable, "-c", DRIVER, str(program(seconds=600)), str(tmp_path)]
    driver = subprocess.Popen(words)
    wait_for(lambda: (tmp_path / "runs" / "pretrain-a" / "model_0000001.pth").exists())
    training = child_of(driver.pid)
    driver.kill()
    driver.wait()
    with pytest.raises(UsageError, match="A training of another command, or of a killed one, runs in .*pretrain-a"):
        run(PRETRAINING, tmp_path)
    os.kill(training, signal.SIGKILL)
    wait_for(lambda: not os.path.exists(f"/proc/{training}"))
    program()
    assert run(PRETRAINING, tmp_path)["resumed"]


def test_a_value_that_is_not_finite_at_the_end_is_no_result(tmp_path, program):
    path = program()
    path.write_text(
        path.read_text()
        + """
with open(folder / "metrics.json", "a") as file:
    print('{"iteration": 3, "total_loss": 1.5, "bbox/AP50": 8.0}', file=file)
    print('{"iteration": 4, "total_loss": NaN, "bbox/AP50": 9.0}', file=file)
"""
    )
    assert run(PRETRAINING, tmp_path)["metrics"] == {"bbox/AP": 7.0, "bbox/AP50": 9.0}


def child_of(pid):
    return int(open(f"/proc/{pid}/task/{pid}/children").read().split()[0])


def wait_for(condition):
    end = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)
