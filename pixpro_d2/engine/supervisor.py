"""Watching the processes of a run: they end together, and what made them end is told once."""

import contextlib
import math
import multiprocessing.connection
import os
import signal
import time

from ..stop_signals import REQUEUE

POLL_SECONDS = 0.5
GRACE_SECONDS = 5.0
REQUEUE_SECONDS = 60.0  # for the others when one has ended with REQUEUE, which it does when all is saved


def supervise(processes, reports, signals):
    """Wait until all processes have ended, or one has failed, which ends the others within seconds.

    Stop signals are handed on to the processes, which end by themselves when they have saved. One that then hangs as it
    ends is killed.

    Args:
        processes (dict[int, multiprocessing.Process]): started, by rank.
        reports (dict[int, multiprocessing.connection.Connection]): where each process that fails sends a pair of the
            time and its error.
        signals (StopSignals): active, of this process.

    Returns:
        tuple[int, str]: exit code of the run, that of the process that failed first, or REQUEUE if all were stopped;
        and what happened, "" if nothing is wrong.
    """
    handed_on = False
    deadline = math.inf
    reports = dict(reports)
    try:
        while not (messages := _receive(reports)) and not _any_failed(processes) and time.monotonic() < deadline:
            running = [process for process in processes.values() if process.exitcode is None]
            if not running:
                break
            # A process waits for another no longer than the group's timeout, and may work alone for longer, as when
            # evaluating: time alone is no failure.
            sentinels = [process.sentinel for process in running]
            multiprocessing.connection.wait([*sentinels, *reports.values()], POLL_SECONDS)
            if signals.received and not handed_on:
                handed_on = True
                for process in running:
                    os.kill(process.pid, signal.Signals[signals.received])
            if any(process.exitcode == REQUEUE for process in processes.values()):
                deadline = min(deadline, time.monotonic() + REQUEUE_SECONDS)
    finally:
        codes = _end(processes)
    return _verdict(codes, messages | _receive(reports), signals.received)


def _receive(reports):
    """Take what has come out of ``reports``; a process has one report.

    Returns:
        dict[int, tuple[float, str]]: times and messages by rank.
    """
    messages = {}
    for rank in [rank for rank, report in reports.items() if report.poll()]:
        with contextlib.suppress(EOFError, OSError):  # closed, perhaps in the middle of a report
            messages[rank] = reports.pop(rank).recv()
    return messages


def _any_failed(processes):
    return any(process.exitcode not in (None, 0, REQUEUE) for process in processes.values())


def _end(processes):
    """Give processes a grace period to end, kill those that do not.

    SIGTERM would be no use: it asks to save after the next reading of the losses, to which none gets without the
    others.

    Returns:
        dict[int, int]: exit codes of those that ended by themselves, by rank.
    """
    deadline = time.monotonic() + GRACE_SECONDS
    for process in processes.values():
        process.join(max(0.0, deadline - time.monotonic()))
    codes = {rank: process.exitcode for rank, process in processes.items() if process.exitcode is not None}
    for process in processes.values():
        if process.exitcode is None:
            process.kill()
    for process in processes.values():
        process.join(GRACE_SECONDS)
    return codes


def _verdict(codes, messages, stopped_by):
    """What :func:`supervise` returns, from exit codes and (time, message), by rank."""
    bad = {rank: code for rank, code in codes.items() if code and rank not in messages}
    stops = (REQUEUE, -signal.Signals[stopped_by]) if stopped_by else ()
    if bad and not messages and all(code in stops for code in bad.values()):
        return REQUEUE, ""
    # Who is killed cannot report, but the others then do, that they have lost it. NCCL aborts a process that has lost
    # another one, so that SIGABRT may be a consequence too.
    killed = {rank: code for rank, code in bad.items() if code < 0 and code != -signal.SIGABRT}
    if messages and not killed:
        _, message = min(messages.values())
        return 1, message
    crashed = {rank: code for rank, code in (killed or bad).items() if code != REQUEUE}
    if not crashed:
        return (REQUEUE if bad else 0), ""
    rank, code = next(iter(crashed.items()))
    if code > 0:
        return code, f"error: rank {rank} ended with exit code {code}."
    name = signal.Signals(-code).name
    hint = ""
    if name == "SIGKILL":
        hint = ", as the system does when memory runs out: lower DATALOADER.NUM_WORKERS or SOLVER.IMS_PER_BATCH"
    return 128 - code, f"error: rank {rank} was killed by {name}{hint}."  # the code that shells give it
