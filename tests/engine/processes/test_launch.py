"""What the launcher does before there are processes; those are in tests/distributed."""

import signal
import subprocess
import sys

import pytest
import torch
import torch.distributed as dist

from pixpro_d2.engine import argument_parser, launch
from pixpro_d2.engine.processes.launch import _check_tasks, _run_joined
from pixpro_d2.utils.signals import REQUEUE, STOP_SIGNALS

CONFIG = ["--config-file", "configs/pretrain/quickstart.yaml"]


def record_call(args):
    args.called = True


def test_one_process_is_this_one():
    args = argument_parser().parse_args([*CONFIG, "MODEL.DEVICE", "cpu"])
    launch(record_call, args)
    assert args.called


def test_the_former_handlers_come_back():
    before = [signal.getsignal(number) for number in STOP_SIGNALS]
    test_one_process_is_this_one()
    assert [signal.getsignal(number) for number in STOP_SIGNALS] == before


STOPPED = """
import os, signal
from pixpro_d2.engine import argument_parser, launch

def main(args):
    os.kill(os.getpid(), signal.SIGTERM)
    print("went on")

launch(main, argument_parser().parse_args({}))
"""


def test_one_process_that_has_not_begun_to_train_can_be_queued_again():
    program = [sys.executable, "-c", STOPPED.format([*CONFIG, "MODEL.DEVICE", "cpu"])]
    done = subprocess.run(program, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout, done.stderr) == (REQUEUE, "", "")


@pytest.fixture
def group():
    """A process group of this process alone, and the handlers of stop signals as they were."""
    former = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    if dist.is_initialized():
        dist.destroy_process_group()
    for number, handler in former.items():
        signal.signal(number, handler)


@pytest.mark.parametrize("end, leaves", [(REQUEUE, True), ("error: a mistake", False), (1, False)])
def test_who_stops_leaves_the_group_and_who_fails_does_not(group, end, leaves):
    """It would wait for the others, which have not failed."""
    with pytest.raises(SystemExit) as told:
        _run_joined(sys.exit, end)
    assert told.value.code == end and dist.is_initialized() is not leaves


def test_who_has_finished_leaves_the_group(group):
    _run_joined(print, "finished")
    assert not dist.is_initialized()


@pytest.mark.parametrize(
    "words, message",
    [
        ([*CONFIG, "--num-gpus", "2", "MODEL.PIXPRO.GAMA", "1"], "error: There is no config key 'MODEL.PIXPRO.GAMA'"),
        (["--config-file", "none.yaml"], "error: There is no config file .*none.yaml"),
        (
            [*CONFIG, "--num-gpus", "8", "MODEL.DEVICE", "cuda"],
            "error: .* but PyTorch sees no GPU",
        ),
        ([*CONFIG, "--num-gpus", "8"], "error: --num-gpus is 8, but PyTorch sees no GPU: add MODEL.DEVICE cpu"),
        ([*CONFIG, "--num-machines", "2"], "error: Several machines need the address"),
    ],
)
def test_mistakes_are_told_before_a_process_starts(words, message, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    args = argument_parser().parse_args(words)
    with pytest.raises(SystemExit, match=message):
        launch(record_call, args)
    assert not hasattr(args, "called")
    monkeypatch.setenv("RANK", "1")  # inside torchrun all processes find the mistake
    with pytest.raises(SystemExit) as end:
        launch(record_call, args)
    assert end.value.code == 1


def test_a_copy_for_each_gpu_is_refused(monkeypatch):
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "4")
    args = argument_parser().parse_args([*CONFIG, "MODEL.DEVICE", "cpu"])
    with pytest.raises(
        SystemExit, match="srun starts this command 4 times, but --num-machines is 1, .*ntasks-per-node=1"
    ):
        launch(record_call, args)
    assert not hasattr(args, "called")


@pytest.mark.parametrize(
    "variables",
    [
        {"SLURM_STEP_NUM_TASKS": "1"},
        {"SLURM_STEP_NUM_TASKS": ""},
        {"SLURM_STEP_NUM_TASKS": "4", "TORCHELASTIC_RUN_ID": "none"},
        {"SLURM_STEP_NUM_TASKS": "4", "SLURM_PTY_PORT": "40001"},
    ],
)
def test_tasks_of_slurm_that_are_no_copies(variables, monkeypatch):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    _check_tasks(argument_parser().parse_args(CONFIG))


def test_the_check_of_gpus_reads_a_file_based_on_a_config_of_the_package(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    (tmp_path / "own.yaml").write_text("_BASE_: pretrain/quickstart.yaml\n")
    args = argument_parser().parse_args(["--config-file", str(tmp_path / "own.yaml"), "--num-gpus", "8"])
    with pytest.raises(SystemExit, match="error: --num-gpus is 8, but PyTorch sees no GPU"):
        launch(record_call, args)
