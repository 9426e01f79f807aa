"""The worker processes of a loader, and what is said when they fail: real ones that are killed or run short."""

import contextlib
import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import namedtuple
from functools import partial
from multiprocessing import util

import cv2
import forked
import pytest
import torch
from detectron2.structures import Boxes, Instances
from torch.utils.data import DataLoader, Dataset

from pixpro_d2.data.io.workers import (
    MAX_TEMPORARY,
    build_loader,
    collate_shared,
    explaining_workers,
    init_worker,
    warn_of_many_workers,
    with_worker_errors,
)
from pixpro_d2.utils.errors import UsageError
from pixpro_d2.utils.signals import STOP_SIGNALS


class Failing(Dataset):
    """Numbers, and at the index 6 whatever ``fail`` does."""

    def __init__(self, fail):
        self.fail = fail

    def __len__(self):
        return 8

    def __getitem__(self, index):
        if index == 6:
            self.fail()
        return torch.tensor(index)


def _loader(fail, workers=2):
    return DataLoader(Failing(fail), batch_size=2, num_workers=workers, worker_init_fn=partial(init_worker, 10**6))


def _told(loader, error_type):
    """What is said when a loader fails; nothing keeps its workers then, as pytest.raises does."""
    try:
        list(with_worker_errors(loader))
    except error_type as error:
        assert type(error) is error_type
        return str(error)
    pytest.fail("no error")


def _send(number):
    os.kill(os.getpid(), number)
    time.sleep(10)


def _quit():
    signal.signal(signal.SIGQUIT, signal.SIG_DFL)  # what a shell starts in the background ignores it
    _send(signal.SIGQUIT)


def _raise(error):
    raise error


MEMORY = (
    r"worker .*ended.*: lower DATALOADER\.NUM_WORKERS, or give the job more memory.* with DATALOADER\.NUM_WORKERS 0"
)
FAILED = r"worker .*failed, and its error is further up: .* below `if __name__ == \"__main__\":`;.*NUM_WORKERS 0, too"


# PyTorch may notice that a worker is gone before it has asked why.
@pytest.mark.parametrize(
    ("fail", "message"),
    [
        (lambda: _send(signal.SIGKILL), rf"{MEMORY} \(.*(signal: Killed|exited unexpectedly)\)\.$"),
        (lambda: _raise(MemoryError()), rf"{MEMORY} \(MemoryError\)\.$"),
        (lambda: _send(signal.SIGBUS), r"/dev/shm .*--shm-size.*NUM_WORKERS \(.*Bus error\)\.$"),
        (
            lambda: _raise(OSError(24, "Too many open files")),
            r"raise `ulimit -n`.*\(OSError: .*Too many open files\)\.$",
        ),
        (_quit, rf"{MEMORY} \(.*(signal: Quit|exited unexpectedly)\)\.$"),
        (lambda: os._exit(3), rf"({FAILED} \(.* with exit code 3|{MEMORY} \(.* exited unexpectedly)\)\.$"),
    ],
    ids=["killed", "no memory", "bus error", "open files", "quits", "exits"],
)
def test_a_worker_that_fails_is_explained(fail, message):
    told = _told(_loader(fail), UsageError)
    assert re.search(message, told) and "\n" not in told


def test_a_worker_that_is_killed_while_the_model_computes():
    batches = with_worker_errors(_loader(lambda: _send(signal.SIGKILL)))
    with pytest.raises(UsageError, match=MEMORY), explaining_workers():
        next(batches)  # the other batches are on their way
        deadline = time.monotonic() + 8
        while time.monotonic() < deadline:
            time.sleep(0.05)


def test_a_worker_that_is_killed_while_its_batch_is_handed_over():
    """The signal may come as soon as the generator goes on."""
    batches = with_worker_errors(_loader(lambda: None, 0))
    next(batches)
    with pytest.raises(UsageError, match=rf"{MEMORY} \(.*signal: Killed\)\.$"):
        batches.throw(RuntimeError("DataLoader worker (pid 1) is killed by signal: Killed. "))


def _hear(number, frame):
    """What PyTorch does when a worker has ended."""
    raise RuntimeError("DataLoader worker (pid 1) is killed by signal: Bus error. It is possible that it is busy.")


def test_the_signal_may_come_later_than_the_loss_of_the_connection():
    former = signal.signal(signal.SIGALRM, _hear)
    signal.setitimer(signal.ITIMER_REAL, 3.0)
    try:
        told = _told(_loader(lambda: _raise(ConnectionResetError()), 0), UsageError)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, former)
    assert "/dev/shm" in told and told.endswith("killed by signal: Bus error).")


def _allocate():
    torch.empty(10**16)


def _open_many():
    raise OSError(24, "Too many open files")


def _connect():
    raise RuntimeError("NCCL error: Error while creating shared memory segment /dev/shm/nccl-Ab3dEf (size 9637888)")


def _compile():
    raise RuntimeError("out of resource: shared memory, Required: 131072, Hardware limit: 101376.")


@pytest.mark.parametrize("fail", [_allocate, _open_many, _connect, _compile])
def test_errors_of_the_model_are_not_the_loader_s(fail):
    for _ in with_worker_errors(_loader(lambda: None)):
        with pytest.raises((RuntimeError, OSError)) as told, explaining_workers():
            fail()
        assert not isinstance(told.value, UsageError)


@pytest.mark.parametrize("fail", [_connect, _compile])
def test_other_shared_memory_than_the_workers(fail):
    assert "shared memory" in _told(_loader(fail, 0), RuntimeError)


def test_the_telling_sentence_is_kept():
    told = _told(_loader(_allocate), UsageError)
    assert re.search(
        rf"{MEMORY} \(DefaultCPUAllocator: can't allocate memory: you tried to allocate \d+ bytes\)\.$", told
    )


def test_errors_of_a_worker_count_anywhere():
    """Those of a loader whose batches are taken without :func:`with_worker_errors`, as detectron2 does to evaluate."""
    with pytest.raises(UsageError, match=MEMORY), explaining_workers():
        list(_loader(_allocate))
    with pytest.raises(UsageError, match="ulimit -n"), explaining_workers():
        list(_loader(_open_many))


@pytest.mark.parametrize("workers", [0, 2])
def test_other_errors_are_left_alone(workers):
    for error in (ValueError("another"), RuntimeError("another"), OSError("another")):
        assert "another" in _told(_loader(lambda error=error: _raise(error), workers), type(error))


@pytest.mark.parametrize("workers", [0, 2])
def test_all_batches_come(workers):
    assert torch.cat(list(with_worker_errors(_loader(lambda: None, workers)))).tolist() == list(range(8))


class Signalled(Dataset):
    """Number of OpenCV threads of its worker, which gets what a scheduler sends to a job."""

    def __len__(self):
        return 3

    def __getitem__(self, index):
        for _ in range(20):
            for number in STOP_SIGNALS:
                os.kill(os.getpid(), number)
        return torch.tensor(cv2.getNumThreads())


@pytest.fixture
def early_thread():
    """Each worker begins a thread as soon as it is forked, as where Python finalizes its parent's former loaders."""
    owner = type("Owner", (), {})()
    util.register_after_fork(owner, lambda _: threading.Thread(target=time.sleep, args=(100,), daemon=True).start())
    yield
    del owner


@pytest.mark.usefixtures("early_thread")
def test_workers_outlive_stop_signals_and_have_one_thread_to_compute():
    loader = build_loader(Signalled(), torch.stack, 1, 10**6, batch_size=1)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    threads = [int(number) for number in with_worker_errors(loader)]
    assert len(threads) == 3 and max(threads) <= 1
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == before


Pair = namedtuple("Pair", "first second")


def _nested(samples):
    instances = Instances((4, 4))
    instances.boxes = Boxes(torch.ones(2, 4))
    return {"a": [torch.ones(3), (torch.ones(2, 2)[:, :1],)], "b": Pair(torch.ones(1), "text"), "c": instances}


def _in_shared_memory(batch):
    return [
        tensor.is_shared() for tensor in (batch["a"][0], batch["a"][1][0], batch["b"].first, batch["c"].boxes.tensor)
    ]


def _collate_and_look(samples):
    return _in_shared_memory(collate_shared(_nested, samples))


def test_workers_share_all_tensors_of_a_batch_themselves():
    loader = DataLoader(range(2), num_workers=1, collate_fn=_collate_and_look)
    assert list(loader) == [[True] * 4] * 2
    assert _collate_and_look([]) == [False] * 4  # not in the training process
    (batch,) = DataLoader(range(1), num_workers=1, collate_fn=partial(collate_shared, _nested))
    assert all(_in_shared_memory(batch)) and batch["b"].second == "text" and batch["c"].boxes.tensor.sum() == 8


# A process of its own with a /dev/shm of its own, of one megabyte.
SHORT_OF_SHARED_MEMORY = """
import functools, torch
from torch.utils.data import DataLoader, default_collate
from pixpro_d2.data.io.workers import collate_shared, with_worker_errors
from pixpro_d2.utils.errors import UsageError

def collate(samples):
    return torch.zeros(2**22, dtype=torch.uint8)

loader = DataLoader(range(4), num_workers=1, collate_fn=functools.partial(collate_shared, collate))
try:
    print(len(list(with_worker_errors(loader))))
except UsageError as error:
    print("UsageError:", error)
"""


def _with_short_memory(program):
    script = 'mount -t tmpfs -o size=1m tmpfs /dev/shm && exec "$0" -c "$1"'
    command = ["unshare", "--map-root-user", "--mount", "sh", "-c", script, sys.executable, program]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)  # without sharing there, it would hang


def test_short_of_shared_memory():
    # Not everywhere may a process have mounts of its own: not in many containers.
    if not sys.platform.startswith("linux") or _with_short_memory("").returncode:
        pytest.skip("needs a mount namespace")
    done = _with_short_memory(SHORT_OF_SHARED_MEMORY)
    assert done.stdout.startswith("UsageError: The data loader's workers are out of shared memory: enlarge /dev/shm"), (
        done.stdout + done.stderr
    )


def _is_there(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


# Python 3.14 starts processes by a fork server where 3.13 forks.
@pytest.mark.slow
@pytest.mark.parametrize(("method", "killed"), [("forkserver", False), ("forkserver", True), ("spawn", False)], ids=str)
def test_start_methods(method, killed, tmp_path):
    """All workers outlive stop signals, know Pillow's limit, and end with their process, however it ends."""
    log = tmp_path / "log.txt"
    process = forked.Program("tests/loading.py", [method, *(["wait"] if killed else [])], log)
    deadline = time.monotonic() + 200
    try:
        while len(printed := re.findall(r"^\[.*\]$", log.read_text(), re.MULTILINE)) < 2:
            assert process.poll() in (None, 0) and time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
        if killed:
            process.kill()
        assert process.wait(30) == (-signal.SIGKILL if killed else 0)
        limits, workers = map(json.loads, printed)
        deadline = time.monotonic() + 20
        while any(map(_is_there, workers)) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert limits == [1234] * 11 and len(workers) == 2 and not any(map(_is_there, workers))
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.parametrize("workers, told", [(0, 0), (4, 0), (5, 1), (16, 1)])
def test_many_more_workers_than_cores(workers, told, monkeypatch):
    """Two processes share 4 cores; twice as many workers as cores are not too many."""
    monkeypatch.setattr("pixpro_d2.data.io.workers.usable_cores", lambda: 4)
    monkeypatch.setattr("detectron2.utils.comm.get_local_size", lambda: 2)
    warned = []
    monkeypatch.setattr("pixpro_d2.data.io.workers.logger.warning", warned.append)
    warn_of_many_workers(workers)
    assert len(warned) == told
    assert all(f"have {2 * workers} workers" in text and "cores for this job is 4:" in text for text in warned)
    assert all(f"NUM_WORKERS, which is {workers} for each process" in text for text in warned)


@pytest.mark.parametrize("over", [0, 1])
def test_a_long_name_of_the_temporary_folder(over, monkeypatch):
    """The longest folder that passes the check works: the worker hands over its batches."""
    with tempfile.TemporaryDirectory(prefix="long", dir="/tmp") as short:
        folder = os.path.join(short, (MAX_TEMPORARY + over - len(short) - 1) * "x")
        os.mkdir(folder)
        monkeypatch.setattr(tempfile, "tempdir", folder)
        monkeypatch.delitem(multiprocessing.current_process()._config, "tempdir", raising=False)
        if over:
            with pytest.raises(UsageError, match=f"has a name of {MAX_TEMPORARY + 1} characters, .*set .*TMPDIR to a"):
                build_loader(range(3), list, 1, 10**6, batch_size=1)
            build_loader(range(3), list, 0, 10**6, batch_size=1)
        else:
            loader = build_loader(torch.arange(3), torch.stack, 1, 10**6, batch_size=1, timeout=20)
            assert [batch.item() for batch in loader] == [0, 1, 2]
