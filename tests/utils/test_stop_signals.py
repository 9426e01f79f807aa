"""Signals that ask a run to end: noted in the main process, ignored by its workers, which yet end with it."""

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import time

import pytest

from pixpro_d2.utils.signals import REQUEUE, STOP_SIGNALS, StopSignals, ignore_stop_signals, requeue_when_stopped


def test_the_first_signal_is_noted_and_the_former_handlers_come_back():
    came = []
    former = {number: signal.signal(number, lambda number, frame: came.append(number)) for number in STOP_SIGNALS}
    try:
        with StopSignals() as signals:
            assert signals.received is None
            os.kill(os.getpid(), signal.SIGUSR1)
            os.kill(os.getpid(), signal.SIGTERM)
            assert signals.received == "SIGUSR1" and came == []
        os.kill(os.getpid(), signal.SIGTERM)
        assert came == [signal.SIGTERM]
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


@pytest.mark.parametrize("handled", [StopSignals, requeue_when_stopped])
def test_forked_children_end_by_the_signal(handled):
    """A multiprocessing.Pool ends its workers by SIGTERM and waits for them."""
    with handled() as signals:
        context = multiprocessing.get_context("fork")
        here = context.Event()
        child = context.Process(target=lambda: here.set() or time.sleep(60))
        child.start()
        here.wait(20)
        child.terminate()
        child.join(20)
        code = child.exitcode
        child.kill()
    assert code == 128 + signal.SIGTERM and (signals is None or signals.received is None)


def test_handlers_come_back_after_an_exception():
    before = [signal.getsignal(number) for number in STOP_SIGNALS]
    with pytest.raises(KeyError), StopSignals():
        raise KeyError
    assert [signal.getsignal(number) for number in STOP_SIGNALS] == before


def test_other_ends_bring_the_former_handlers_back():
    before = [signal.getsignal(number) for number in STOP_SIGNALS]
    for error in (SystemExit(1), KeyError(), None):
        with contextlib.suppress(SystemExit, KeyError), requeue_when_stopped():
            assert [signal.getsignal(number) for number in STOP_SIGNALS] != before
            if error:
                raise error
        assert [signal.getsignal(number) for number in STOP_SIGNALS] == before


STOPPED = """
import os, signal
from pixpro_d2.utils.signals import StopSignals, requeue_when_stopped

with requeue_when_stopped():
    with StopSignals() as signals:
        os.kill(os.getpid(), signal.{number})
        print("noted", signals.received, flush=True)
    try:
        os.kill(os.getpid(), signal.{number})
        print("went on", flush=True)
    finally:
        print("cleans up", flush=True)
print("went on", flush=True)
"""


@pytest.mark.parametrize("number", ["SIGTERM", "SIGUSR1"])
def test_a_process_without_anything_to_save_ends_at_once(number):
    program = [sys.executable, "-c", STOPPED.format(number=number)]
    done = subprocess.run(program, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (REQUEUE, f"noted {number}\ncleans up\n", "")


def test_a_second_signal_does_not_change_the_code():
    second = "import atexit; atexit.register(lambda: os.kill(os.getpid(), signal.SIGUSR1))\nwith requeue"
    program = STOPPED.format(number="SIGTERM").replace("with requeue", second)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == REQUEUE and done.stderr == ""


def _wait_ignoring(ready):
    ignore_stop_signals()
    ready.set()
    time.sleep(1000)


@pytest.fixture
def worker():
    fork = multiprocessing.get_context("fork")
    ready = fork.Event()
    process = fork.Process(target=_wait_ignoring, args=(ready,), daemon=True)
    process.start()
    assert ready.wait(20)
    yield process
    process.kill()
    process.join(20)


def test_a_worker_outlives_stop_signals_to_all(worker):
    """Which come from elsewhere: here from kill, a process of its own."""
    for number in STOP_SIGNALS:
        subprocess.run(["kill", f"-{int(number)}", str(worker.pid)], check=True)
    worker.join(0.5)
    assert worker.is_alive()


def test_a_worker_ends_when_its_parent_says_so(worker):
    worker.terminate()
    worker.join(20)
    assert worker.exitcode == 0


PROGRAM = f"""
import multiprocessing, sys, time
from pixpro_d2.utils.signals import ignore_stop_signals

def wait(ready):
    ignore_stop_signals()
    ready.set()
    time.sleep(1000)

fork = multiprocessing.get_context("fork")
ready = fork.Event()
worker = fork.Process(target=wait, args=(ready,), daemon=True)
worker.start()
ready.wait()
print(worker.pid)
sys.exit({REQUEUE})
"""


def test_a_process_with_such_workers_ends():
    """multiprocessing asks the worker to end by SIGTERM, and waits for it."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60)
    assert done.returncode == REQUEUE == 75 and done.stderr == ""
    with pytest.raises(ProcessLookupError):
        os.kill(int(done.stdout), 0)
