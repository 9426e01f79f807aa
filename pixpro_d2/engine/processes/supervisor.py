"""Supervise the processes of a run on this machine: wait for them, and end them together."""

import contextlib
import math
import multiprocessing.connection
import os
import pickle
import signal
import time
from collections.abc import Mapping, Sequence
from multiprocessing.process import BaseProcess
from pathlib import Path

from torch.multiprocessing import ProcessContext

from ...utils.signals import REQUEUE, StopSignals

POLL_SECONDS = 0.5
GRACE_SECONDS = 5.0
REQUEUE_SECONDS = 60.0  # time for the other processes after one has saved and ended with REQUEUE


class Refusal(Exception):
    """End a process with a message that needs no traceback, such as a mistake of the user."""


def supervise(context: ProcessContext, first_rank: int, signals: StopSignals) -> tuple[int, str, bool]:
    """Wait until all processes have ended, or one has failed; then end the other processes within seconds.

    Stop signals are sent on to the processes, which save and end by themselves. A process that then hangs is killed.

    ``ProcessContext.join`` is not enough. It takes the exit code REQUEUE, after a process has saved, for a failure. It
    ends the other processes by SIGTERM, which asks them to save. It waits for a failed process that hangs, without
    limit.

    Args:
        context: started processes. PyTorch writes the traceback of an exception to a file of the failed process.
        first_rank: rank of the first process.
        signals: active stop signals of this process.

    Returns:
        Exit code of the run, a message, and whether the message is of a :class:`Refusal`. The code is the code of the
        process that failed first, or REQUEUE if all were stopped. The message is "" unless a process failed.
    """
    processes: list[BaseProcess] = context.processes
    handed_on = False
    deadline = math.inf
    try:
        while not _any_failed(context) and time.monotonic() < deadline:
            running = [process for process in processes if process.exitcode is None]
            if not running:
                break
            # Time alone is no failure: a process may work alone for long, for example in an evaluation. The timeout of
            # the group limits how long processes wait for each other.
            multiprocessing.connection.wait([process.sentinel for process in running], POLL_SECONDS)
            if signals.received and not handed_on:
                handed_on = True
                for process in running:
                    os.kill(process.pid, signal.Signals[signals.received])  # type: ignore[arg-type]  # it has started
            if any(process.exitcode == REQUEUE for process in processes):
                deadline = min(deadline, time.monotonic() + REQUEUE_SECONDS)
    finally:
        codes = _end(processes)
        errors = _read_errors(context.error_files)
    ended = {first_rank + i: code for i, code in enumerate(codes) if code is not None}
    return _verdict(ended, {first_rank + i: error for i, error in errors.items()}, signals.received)


def _any_failed(context: ProcessContext) -> bool:
    """Return whether a process has ended with an error, or has written an error and is about to end."""
    codes = (process.exitcode for process in context.processes)
    return any(code not in (None, 0, REQUEUE) for code in codes) or any(map(os.path.exists, context.error_files))


def _end(processes: Sequence[BaseProcess]) -> list[int | None]:
    """Wait a grace period for processes to end, then kill the remaining processes.

    SIGTERM would not end them: it asks to save after the next reading of the losses, and no process gets there without
    the others.

    Returns:
        Exit codes of the processes; None for a killed process.
    """
    deadline = time.monotonic() + GRACE_SECONDS
    for process in processes:
        process.join(max(0.0, deadline - time.monotonic()))
    codes = [process.exitcode for process in processes]
    for process in processes:
        process.kill()
    for process in processes:
        process.join(GRACE_SECONDS)
    return codes


def _read_errors(files: Sequence[str]) -> dict[int, tuple[int, str]]:
    """Read and remove the files of failed processes; return time and traceback by the number of the process."""
    errors = {}
    for i, path in enumerate(map(Path, files)):
        # A process without an error writes no file, and a killed process may leave half a file.
        with contextlib.suppress(FileNotFoundError, EOFError, pickle.UnpicklingError):
            errors[i] = path.stat().st_mtime_ns, pickle.loads(path.read_bytes())
        path.unlink(missing_ok=True)
    return errors


def _verdict(
    codes: Mapping[int, int], errors: Mapping[int, tuple[int, str]], stopped_by: str | None
) -> tuple[int, str, bool]:
    """Return the result of :func:`supervise` from exit codes and pairs of time and traceback, by rank."""
    bad = {rank: code for rank, code in codes.items() if code and rank not in errors}
    stops = (REQUEUE, -signal.Signals[stopped_by]) if stopped_by else ()
    if bad and not errors and all(code in stops for code in bad.values()):
        return REQUEUE, "", False
    # A killed process writes no error. The other processes then write that they have lost it. NCCL aborts a process
    # that has lost another process, so SIGABRT may be a consequence too.
    killed = {rank: code for rank, code in bad.items() if code < 0 and code != -signal.SIGABRT}
    if errors and not killed:
        rank = min(errors, key=errors.__getitem__)
        return 1, *_message(errors[rank][1], rank)
    crashed = {rank: code for rank, code in (killed or bad).items() if code != REQUEUE}
    if not crashed:
        return (REQUEUE if bad else 0), "", False
    rank, code = next(iter(crashed.items()))
    if code > 0:
        return code, f"error: rank {rank} ended with exit code {code}.", False
    name = signal.Signals(-code).name
    hint = ""
    if name == "SIGKILL":
        hint = ", as the system does when memory runs out: lower DATALOADER.NUM_WORKERS or SOLVER.IMS_PER_BATCH"
    return 128 - code, f"error: rank {rank} was killed by {name}{hint}.", False  # the exit code that shells use


def _message(trace: str, rank: int) -> tuple[str, bool]:
    """Return the message of a failed process from its traceback, and whether it is of a :class:`Refusal`."""
    _, refused, sentence = trace.partition(f"{Refusal.__module__}.{Refusal.__qualname__}: ")
    if refused:
        return f"{sentence.rstrip()} [rank {rank}]", True
    return f"{trace}error: rank {rank} failed with the exception above.", False
