"""Watching the processes of a run: they end together, and what made them end is told once."""

import multiprocessing.connection
import os
import signal
import time

from ..stop_signals import REQUEUE

POLL_SECONDS = 0.5
GRACE_SECONDS = 5.0


def supervise(processes, reports, signals):
    """Wait until all processes have ended, or one has failed, which ends the others within seconds.

    Stop signals are handed on to the processes, which end by themselves when they have saved.

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
    try:
        while not _any_failed(processes, reports):
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
    finally:
        codes = _end(processes)
    messages = {rank: report.recv() for rank, report in reports.items() if report.poll()}
    return _verdict(codes, messages, signals.received)


def _any_failed(processes, reports):
    ended = any(process.exitcode not in (None, 0, REQUEUE) for process in processes.values())
    return ended or any(report.poll() for report in reports.values())


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
    if stopped_by and not messages and all(code in (REQUEUE, -signal.Signals[stopped_by]) for code in bad.values()):
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
