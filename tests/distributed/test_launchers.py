"""Real processes of several ranks: how they meet, and how they end when one fails or a signal comes."""

import os
import signal

import pytest
from faults.commands import Command
from faults.runs import NETWORK
from torch.distributed.elastic.utils.distributed import get_free_port

import configs
from pixpro_d2.extras.scenes.render_dataset import render_dataset
from pixpro_d2.utils.signals import REQUEUE

pytestmark = pytest.mark.slow

CONFIG = ["--config-file", "configs/pretrain/quickstart.yaml"]
ON_CPU = ["MODEL.DEVICE", "cpu"]
PROGRAM = "tests/launched.py"


@pytest.fixture
def start(tmp_path):
    """Starts a program; nothing of it is left after the test."""
    started = []

    def start(program, *args, launcher=(), fork=True, **env):
        log = tmp_path / f"output_{len(started)}.txt"
        started.append(Command(*args, program=program, launcher=launcher, log=log, env=env, fork=fork))
        return started[-1]

    yield start
    for command in started:
        command.close()


def test_two_machines(start):
    url = f"tcp://127.0.0.1:{get_free_port()}"
    machines = [
        start(PROGRAM, *CONFIG, "--num-machines", 2, "--machine-rank", i, "--dist-url", url, *ON_CPU, CASE="sum")
        for i in range(2)
    ]
    for i, machine in enumerate(machines):
        ended = machine.end()
        assert ended.code == 0, ended
        assert f"rank {i} of 2, 0 of 1 here: sum 1, resume False" in ended.output


def test_a_process_that_raises_ends_the_others(start):
    """Though they neither end by themselves nor for SIGTERM."""
    ended = start(PROGRAM, *CONFIG, "--num-gpus", 2, *ON_CPU, CASE="raise").end()
    output = ended.output
    assert ended.code == 1 and "rank 0 of 2, 0 of 2 here: sum 1" in output
    assert output.count("ArithmeticError: the fault of one process") == 1
    assert output.rstrip().splitlines()[-1] == "error: rank 1 failed with the exception above."


def test_a_process_that_is_killed_ends_the_others(start):
    """The other one fails, too, when it finds the connection closed; but that is not what is told."""
    ended = start(PROGRAM, *CONFIG, "--num-gpus", 2, *ON_CPU, fork=False, CASE="kill").end()
    assert ended.code == 128 + signal.SIGKILL
    last = ended.output.rstrip().splitlines()[-1]
    assert last.startswith("error: rank 1 was killed by SIGKILL, ") and "DATALOADER.NUM_WORKERS" in last


def test_torchrun_starts_again_and_resumes(start):
    launcher = ("-m", "torch.distributed.run", "--nproc-per-node", "2", "--max-restarts", "1")
    launcher += ("--rdzv-backend", "c10d", "--rdzv-endpoint", f"127.0.0.1:{get_free_port()}")
    ended = start(PROGRAM, *CONFIG, *ON_CPU, launcher=launcher, CASE="restart").end()
    output = ended.output
    assert ended.code == 0, ended
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
    return [*CONFIG, "--num-gpus", 2, "DATASETS.TRAIN", f"('images:{scenes}',)", *configs.TINY, *NETWORK, *opts]


@pytest.mark.parametrize("name, to_all", [("SIGTERM", False), ("SIGUSR1", True)], ids=["launcher", "all processes"])
def test_a_stop_signal_saves_and_asks_to_be_queued_again(start, training, tmp_path, name, to_all):
    """To the launcher alone, or as a scheduler does to all processes of a job, workers too."""
    command = start("train_net.py", *training, "OUTPUT_DIR", tmp_path, fork=not to_all)
    last = tmp_path / "last_checkpoint"
    command.when(last.is_file)
    before = last.read_text()
    (os.killpg if to_all else os.kill)(command.pid, signal.Signals[name])
    ended = command.end()
    output = ended.output
    assert ended.code == REQUEUE, ended
    assert "Asked to stop" in output and "Traceback" not in output
    assert last.read_text() > before and (tmp_path / last.read_text()).is_file()
    assert f"iteration {int(last.read_text()[6:13])};" in output


def test_a_stop_signal_before_the_training(start, training, tmp_path):
    """When nothing is there to save, to all processes: none waits for the others."""
    command = start("train_net.py", *training, "OUTPUT_DIR", tmp_path)
    command.when(lambda: "The whole config is in" in command.output())
    os.killpg(command.pid, signal.SIGUSR1)
    ended = command.end()
    since = ended.output.partition("The whole config is in")[2]
    assert ended.code == REQUEUE and "Traceback" not in since and "error" not in since, ended
    assert not (tmp_path / "last_checkpoint").exists()
