"""Runs of two processes (gloo, CPU) of which one fails, is killed or skips a step."""

import os
import signal
import time

import torch
from torch.distributed.elastic.utils.distributed import get_free_port

from pixpro_d2.utils.signals import REQUEUE

from .commands import children
from .killing import REPEATED, stopped
from .numerics import HAPPENED, LOST, assert_left_out
from .registry import NOTHING, fault
from .runs import LAST, assert_same, numbered, resumed_after

PAIR = ["--num-gpus", 2]
BOUND_SECONDS = 60  # from the death of one process to the end of the run


def resume_pair(runs, folder):
    """Resume with two processes; tells where it went on."""
    after = resumed_after(runs.start(*PAIR, "--resume", *runs.pretraining(), "OUTPUT_DIR", folder).end())
    assert_same(folder, runs.straight_pair)
    return f"resumed after iteration {after} of {LAST}, bit-identical"


def start_pair(runs, folder, **options):
    return runs.start(*PAIR, *runs.pretraining(), "OUTPUT_DIR", folder, **options)


@fault("pre-empted, of two processes", "SIGTERM to the launcher")
def terminated_launcher(runs):
    folder = stopped(runs, "SIGTERM", os.kill, 0, *PAIR)
    return f"all saved and ended, exit code {REQUEUE}; {resume_pair(runs, folder)}", NOTHING


@fault("one of two processes killed", "SIGKILL to one rank")
def killed_rank(runs):
    folder = runs.new()
    command = start_pair(runs, folder)
    command.when((folder / numbered(7)).is_file)
    began = time.monotonic()
    os.kill(children(command.pid)[-1], signal.SIGKILL)
    ended, seconds = command.end(), time.monotonic() - began
    last = ended.output.rstrip().splitlines()[-1]
    assert ended.code == 128 + signal.SIGKILL and last.startswith("error: rank ") and "SIGKILL" in last, ended
    assert seconds < BOUND_SECONDS
    return f"the other ended within {seconds:.0f} s, exit code 137, rank named; {resume_pair(runs, folder)}", REPEATED


@fault("one of two processes fails", "an exception in the model of rank 1 in iteration 10")
def raising_rank(runs):
    folder = runs.new()
    command = start_pair(runs, folder, inject="raise", at=10, rank=1)
    ended = command.end()
    assert ended.code == 1 and ended.output.count("ArithmeticError: injected") == 1, ended
    assert ended.output.rstrip().endswith("error: rank 1 failed with the exception above."), ended
    return f"its exception is reported once, exit code 1; {resume_pair(runs, folder)}", REPEATED


@fault("one of two processes fails at length", "an exception with a message of 200 000 characters", quick=True)
def verbose_rank(runs):
    command = start_pair(runs, runs.new(), inject="raise at length", at=10, rank=1)
    command.when(lambda: "Starting training" in command.output())
    began = time.monotonic()
    ended, seconds = command.end(), time.monotonic() - began
    assert ended.code == 1 and "xxx injected\n" in ended.output, ended.output[-3000:]
    assert ended.output.rstrip().endswith("error: rank 1 failed with the exception above."), ended.output[-3000:]
    assert seconds < BOUND_SECONDS
    return "the end of its message is reported, both ended within a minute, exit code 1", NOTHING


@fault("launcher killed", "SIGKILL to the parent of two processes")
def killed_launcher(runs):
    folder = runs.new()
    command = start_pair(runs, folder)
    command.when((folder / numbered(7)).is_file)
    os.kill(command.pid, signal.SIGKILL)
    assert command.end().code == -signal.SIGKILL  # nobody is left
    return f"both processes ended; {resume_pair(runs, folder)}", REPEATED


@fault("one of torchrun's processes killed", "SIGKILL to one rank under torchrun --max-restarts 1")
def torchrun(runs):
    folder = runs.new()
    launcher = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--max-restarts", "1", "--rdzv-backend", "c10d"]
    launcher += ["--rdzv-endpoint", f"127.0.0.1:{get_free_port()}"]
    command = runs.start(*runs.pretraining(), "OUTPUT_DIR", folder, launcher=launcher)
    command.when((folder / numbered(7)).is_file)
    os.kill(children(command.pid)[-1], signal.SIGKILL)
    after = resumed_after(command.end())
    assert_same(folder, runs.straight_pair)
    return f"started again by torchrun, resumed by itself after iteration {after} of {LAST}, bit-identical", REPEATED


@fault("NaN in one of two processes", "the loss of rank 1 times NaN in iteration 10")
def nan_rank(runs):
    folder, reference = runs.new(), runs.new()
    ended = start_pair(runs, folder, inject="nan", at=10, rank=1).end()
    assert start_pair(runs, reference, inject="skip", at=10).end().code == 0
    assert_left_out(ended, folder, reference)
    return f"both processes: {HAPPENED}", LOST


@fault("resumed with another number of processes", "2 processes until iteration 15, then 1; batches compared")
def other_processes(runs):
    whole, parts, folder = runs.new("whole"), runs.new("parts"), runs.new()
    whole.mkdir()
    parts.mkdir()
    words = [*runs.pretraining(), "OUTPUT_DIR"]
    alone = runs.start(*words, runs.new(), inject="record", env={"RECORD": str(whole)}).end()
    env = {"RECORD": str(parts)}
    pair = runs.start(*PAIR, *words, folder, inject="record", env={**env, "STOP_AT": "15"}).end()
    assert alone.code == 0 and pair.code == REQUEUE, (alone, pair)
    after = resumed_after(runs.start("--resume", *words, folder, inject="record", env=env).end())
    assert 14 <= after < LAST
    for iteration in range(LAST + 1):
        (expected,) = _recorded(whole, iteration)
        pieces = _recorded(parts, iteration)
        assert len(pieces) == (2 if iteration <= after else 1)
        for name, value in expected.items():
            assert torch.equal(torch.cat([piece[name] for piece in pieces]), value), (iteration, name)
    return f"all {LAST + 1} batches have the same views, boxes and order as those of one process", NOTHING


def _recorded(folder, iteration):
    return [torch.load(path, weights_only=True) for path in sorted(folder.glob(f"{iteration:03d}_*.pth"))]
