"""Real processes of several ranks: how they meet, and how they end when one fails or a signal comes."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cli
import pytest
from torch.distributed.elastic.utils.distributed import get_free_port

import configs
from pixpro_d2.tools.render import render_dataset
from pixpro_d2.utils.signals import REQUEUE

pytestmark = pytest.mark.slow

CONFIG = ["--config-file", "configs/pretrain/quickstart.yaml"]
ON_CPU = ["MODEL.DEVICE", "cpu"]
PROGRAM = str(Path(__file__).resolve().parent.parent / "launched.py")


@pytest.fixture
def start():
    """Starts a program in a session of its own, its output in a pipe; nothing of it is left after the test."""
    started = []

    def start(program, *args, launcher=(sys.executable,), **env):
        process = subprocess.Popen(
            [*launcher, program, *map(str, args)],
            cwd=cli.ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pipesize=2**20,  # a run's log is longer than a pipe's 64 KiB, and nobody reads it before the end
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1", **env},
            start_new_session=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def end(process, timeout=200):
    """Exit code and output; checks that no process of the session is left."""
    output, _ = process.communicate(timeout=timeout)
    assert not _still_there(process.pid), output[-4000:]
    return process.returncode, output


def _still_there(session, patience=10):
    """Whether processes of a session are there that do not end within seconds, as a data loader's workers do."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        try:
            os.killpg(session, 0)
        except ProcessLookupError:
            return False
        time.sleep(0.2)
    return True


def test_two_machines(start):
    url = f"tcp://127.0.0.1:{get_free_port()}"
    machines = [
        start(PROGRAM, *CONFIG, "--num-machines", 2, "--machine-rank", i, "--dist-url", url, *ON_CPU, CASE="sum")
        for i in range(2)
    ]
    for i, machine in enumerate(machines):
        code, output = end(machine)
        assert code == 0, output[-4000:]
        assert f"rank {i} of 2, 0 of 1 here: sum 1, resume False" in output


def test_a_process_that_raises_ends_the_others(start):
    """Though they neither end by themselves nor for SIGTERM."""
    code, output = end(start(PROGRAM, *CONFIG, "--num-gpus", 2, *ON_CPU, CASE="raise"))
    assert code == 1 and "rank 0 of 2, 0 of 2 here: sum 1" in output
    assert output.count("ArithmeticError: the fault of one process") == 1
    assert output.rstrip().splitlines()[-1] == "error: rank 1 failed with the exception above."


def test_a_process_that_is_killed_ends_the_others(start):
    """The other one fails, too, when it finds the connection closed; but that is not what is told."""
    code, output = end(start(PROGRAM, *CONFIG, "--num-gpus", 2, *ON_CPU, CASE="kill"))
    assert code == 128 + signal.SIGKILL
    last = output.rstrip().splitlines()[-1]
    assert last.startswith("error: rank 1 was killed by SIGKILL, ") and "DATALOADER.NUM_WORKERS" in last


def test_torchrun_starts_again_and_resumes(start):
    launcher = (sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--max-restarts", "1")
    launcher += ("--rdzv-backend", "c10d", "--rdzv-endpoint", f"127.0.0.1:{get_free_port()}")
    code, output = end(start(PROGRAM, *CONFIG, *ON_CPU, launcher=launcher, CASE="restart"))
    assert code == 0, output[-4000:]
    assert output.count("sum 1, resume False") == 2 and output.count("sum 1, resume True") == 2
    assert all(f"rank {rank} ends, resume True" in output for rank in range(2))
    assert "ArithmeticError: the fault of one process" in output


@pytest.fixture(scope="module")
def training(tmp_path_factory):
    """Arguments of a run of train_net.py without end, in two processes with a worker each."""
    scenes = tmp_path_factory.mktemp("launchers") / "scenes"
    render_dataset(scenes, train=8, test=2, size=96)
    opts = ["SOLVER.MAX_ITER", 100000, "SOLVER.CHECKPOINT_PERIOD", 2, "SOLVER.METRICS_PERIOD", 2]
    opts += ["SOLVER.CHECKPOINT_KEEP_LAST", 2, "DATALOADER.NUM_WORKERS", 1]
    return [*CONFIG, "--num-gpus", 2, "DATASETS.TRAIN", f"('images:{scenes}',)", *configs.TINY, *opts]


@pytest.mark.parametrize("name, to_all", [("SIGTERM", False), ("SIGUSR1", True)], ids=["launcher", "all processes"])
def test_a_stop_signal_saves_and_asks_to_be_queued_again(start, training, tmp_path, name, to_all):
    """To the launcher alone, or as a scheduler does to all processes of a job, workers too."""
    process = start("train_net.py", *training, "OUTPUT_DIR", tmp_path)
    last = tmp_path / "last_checkpoint"
    deadline = time.monotonic() + 300
    while not last.is_file():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    before = last.read_text()
    (os.killpg if to_all else os.kill)(process.pid, signal.Signals[name])
    code, output = end(process)
    assert code == REQUEUE, output[-4000:]
    assert "Asked to stop" in output and "Traceback" not in output
    assert last.read_text() > before and (tmp_path / last.read_text()).is_file()
    assert f"iteration {int(last.read_text()[6:13])};" in output


def test_a_stop_signal_before_the_training(start, training, tmp_path):
    """When nothing is there to save, to all processes: none waits for the others."""
    process = start("train_net.py", *training, "OUTPUT_DIR", tmp_path)
    assert any("Full config saved" in line for line in process.stdout)
    os.killpg(process.pid, signal.SIGUSR1)
    code, output = end(process)
    assert code == REQUEUE and "Traceback" not in output and "error" not in output, output[-4000:]
    assert not (tmp_path / "last_checkpoint").exists()
