"""Running train_net.py for a fault: as a command, or in this process, which takes less time."""

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass

import cli
import forked
from data_helpers import logged
from detectron2.utils.logger import setup_logger

PATIENCE = 300  # seconds for anything that is waited for


@dataclass(frozen=True)
class Ended:
    """How a run ended: its exit code, and what it logged and said."""

    code: int
    output: str

    def error(self):
        """The one sentence that the run ended with; checks that it is one, without a traceback."""
        assert self.code == 1, self
        errors = [line for line in self.output.splitlines() if line.startswith("error: ")]
        assert len(errors) == 1 and "Traceback" not in self.output, self
        return errors[0]


def here(*words):
    """``train_net.py words`` in this process, with the exit code that its SystemExit stands for.

    An exception that train_net.py would not catch is raised.
    """
    code, error = 0, ""
    with logged("pixpro_d2") as messages:
        try:
            cli.run_here(*words)
        except SystemExit as end:
            code, error = (1, end.code) if isinstance(end.code, str) else (end.code, "")
    for name in ("detectron2", "fvcore", "pixpro_d2"):  # the next run has a log of its own
        logging.getLogger(name).handlers.clear()
    setup_logger.cache_clear()
    return Ended(code, "\n".join([*messages, error]))


class Command:
    """A program of train_net.py's arguments, running in a session of its own."""

    def __init__(self, *words, program="train_net.py", launcher=(), log, env=(), preexec_fn=None, fork=False):
        """
        Args:
            words: arguments.
            program (str): path below the checkout.
            launcher (tuple[str]): arguments of Python before the program, e.g. of torchrun.
            log (Path): file for its output.
            env (dict): variables besides those of this process.
            preexec_fn (Callable[[], None]): called in the new process before the program.
            fork (bool): whether to fork the process, where there is neither a launcher nor a ``preexec_fn``, instead of
                starting an interpreter, which takes seconds.
        """
        self.log = log
        # Data sets are registered when the package is imported, which a forked process has done before.
        if fork and not launcher and not preexec_fn and "DETECTRON2_DATASETS" not in dict(env):
            self.process = forked.Program(program, words, log, env)
            return
        self.process = subprocess.Popen(
            [sys.executable, *launcher, program, *map(str, words)],
            cwd=cli.ROOT,
            stdout=open(log, "w"),  # noqa: SIM115 the process keeps it
            stderr=subprocess.STDOUT,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", **dict(env)},
            start_new_session=True,
            preexec_fn=preexec_fn,
        )

    @property
    def pid(self):
        return self.process.pid

    def output(self):
        """What it has written by now."""
        return self.log.read_text(errors="replace")

    def when(self, condition):
        """Wait until ``condition()`` holds, within PATIENCE, while the program runs; returns what it returned."""
        deadline = time.monotonic() + PATIENCE
        while not (value := condition()):
            assert self.process.poll() is None, f"ended with {self.process.returncode}: {self.output()[-3000:]}"
            assert time.monotonic() < deadline, f"waited in vain: {self.output()[-3000:]}"
            time.sleep(0.001)
        return value

    def end(self):
        """Wait for its end, within PATIENCE, and check that it leaves no process behind; returns Ended."""
        try:
            self.process.wait(PATIENCE)
            self._wait_for_others()
        finally:
            self.close()
        return Ended(self.process.returncode, self.output())

    def _wait_for_others(self, patience=60):
        deadline = time.monotonic() + patience
        while _exists(self.pid):
            assert time.monotonic() < deadline, f"processes are left of {self.process.args}"
            time.sleep(0.05)

    def close(self):
        """Kill whatever is left."""
        if _exists(self.pid):
            os.killpg(self.pid, signal.SIGKILL)
        self.process.wait(PATIENCE)


def _exists(group):
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def children(pid):
    """Pids of the processes that a process has started, but for Python's resource tracker (Linux)."""
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        started = list(map(int, file.read().split()))
    return [pid for pid in started if b"resource_tracker" not in _command_line(pid)]


def _command_line(pid):
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return file.read()
    except (FileNotFoundError, ProcessLookupError):  # it has ended
        return b""


@contextmanager
def meanwhile(condition, action):
    """Context beside which, in a thread, ``action()`` is called once ``condition()`` holds; checks that it was."""
    done, over, failures = threading.Event(), threading.Event(), []

    def watch():
        while not condition():
            if over.wait(0.001):
                return
        try:
            action()
        except Exception as error:
            failures.append(error)
        done.set()

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    assert done.is_set(), "the run ended before the fault"
    assert not failures, failures
