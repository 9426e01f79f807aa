"""Processes that are forked from one which has imported PyTorch, detectron2 and this project: none imports them again.

A fresh interpreter spends seconds on these imports, a forked process milliseconds. Tests of what an interpreter itself
does, as those of launchers, start one: :data:`cli.FRESH`.
"""

import atexit
import functools
import multiprocessing
import multiprocessing.forkserver
import os
import runpy
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# All that a run of train_net.py imports, and pytest, which a child imports where it is the parent's main module.
IMPORTED = ["pytest", "pixpro_d2.engine", "pixpro_d2.engine.dry_run", "pixpro_d2.checkpoint", "detectron2.evaluation"]
IMPORTED += ["torch.utils.tensorboard", "tensorboard.compat.proto.summary_pb2"]


@functools.cache
def forkserver():
    """multiprocessing's context of processes that are forked from a server, which has one thread.

    The server imports and does nothing else: a process that has computed already, and has threads for it, could not
    be forked without the danger of waiting for them for ever. The server must be the first of its process: one that
    something else has started has imported nothing, and blocks the stop signals if a loader of this project started it.
    """
    assert multiprocessing.forkserver._forkserver._forkserver_pid is None, "a test has started a server of its own"
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(IMPORTED)
    former = {name: os.environ.get(name) for name in ("OMP_NUM_THREADS", "PYTHONPATH")}
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), former["PYTHONPATH"]]))
    try:
        multiprocessing.forkserver.ensure_running()
    finally:
        for name, value in former.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})
    return context


class Program:
    """``python PROGRAM WORDS`` in a forked process and a session of its own; has what is used of subprocess.Popen."""

    def __init__(self, program, words, log, env=()):
        """
        Args:
            program (str): path below the checkout, or a module's name.
            words (list): its arguments.
            log (Path): file that its output is appended to.
            env (dict): variables besides those of this process.
        """
        self.args = [program, *map(str, words)]
        context = forkserver()
        began, begins = context.Pipe(duplex=False)
        variables = {**os.environ, "OMP_NUM_THREADS": "1", **dict(env)}
        self._process = context.Process(target=_run, args=(self.args, str(log), variables, begins))
        self._process.start()
        begins.close()
        began.recv()
        self.pid = self._process.pid
        atexit.register(self.kill)  # one that a failed test has left: multiprocessing would wait for it

    @property
    def returncode(self):
        """Exit code, the negative number of the signal that ended it, or None while it runs."""
        return self._process.exitcode

    def poll(self):
        """The same."""
        return self._process.exitcode

    def wait(self, timeout=None):
        """Wait for the end; returns the exit code."""
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired(self.args, timeout)
        return self.returncode

    def terminate(self):
        """Send SIGTERM."""
        self._process.terminate()

    def kill(self):
        """Send SIGKILL."""
        self._process.kill()


def popen(command, stdout, env, **_):
    """A :class:`Program` for the arguments that pixpro_d2.extras.study.running gives to subprocess.Popen."""
    _, _, module, *words = command  # python -m MODULE
    return Program(module, words, stdout.name, env)


def _run(argv, log, variables, begins):
    os.setsid()
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    for descriptor in (1, 2):
        os.dup2(output, descriptor)
    os.close(output)
    sys.stdout = open(1, "w", buffering=1, closefd=False)  # noqa: SIM115 as long as the process lives
    sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
    os.environ.clear()
    os.environ.update(variables)
    os.chdir(ROOT)
    begins.send(None)
    begins.close()
    sys.argv = list(argv)
    if not argv[0].endswith(".py"):
        runpy.run_module(argv[0], run_name="__main__", alter_sys=True)
        return
    sys.path.insert(0, str((ROOT / argv[0]).parent))
    runpy.run_path(str(ROOT / argv[0]), run_name="__main__")
