"""Signals by which a scheduler asks a run to end, so that it can save before it does."""

import contextlib
import multiprocessing
import os
import signal
import threading
from multiprocessing import resource_tracker

# Sent before a pre-emption or at a job's time limit; SIGUSR1 is what one can have SLURM send earlier.
STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
# Exit code of a run that such a signal ended: all is saved, the scheduler may start the same command with --resume.
REQUEUE = os.EX_TEMPFAIL
POLL_SECONDS = 1.0  # from one look to the next whether the process that a worker works for is still there
_CAN_IGNORE = hasattr(signal, "sigtimedwait")  # macOS, for which no scheduler runs, has none


@contextlib.contextmanager
def stop_signals_held():
    """Context in which stop signals wait; workers that are forked in it are to call :func:`ignore_stop_signals`.

    A signal reaches any thread of a process that does not block it, and a worker can have some before it gets to call
    anything: Python finalizes the loaders that its parent has left behind, which begins threads. Where they are not
    forked, Python's helper processes start here too, and outlive the signals as well.
    """
    if not _CAN_IGNORE:
        yield
        return
    former = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    if multiprocessing.get_start_method() != "fork":
        resource_tracker.ensure_running()  # lets SIGTERM pass again
        signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, former)


def ignore_stop_signals():
    """Let stop signals pass, in a worker process, unless the process that started it sends them, to end its workers.

    A scheduler signals all processes of a job at once; the workers of a data loader must outlive the signal, because
    the process that they work for first finishes its iteration. When that process is gone, they end too: a fork server,
    their parent then, lives as long as they do.
    """
    if _CAN_IGNORE:
        signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
        threading.Thread(target=_end_with, args=(multiprocessing.parent_process(),), daemon=True).start()


def _end_with(starter):
    while starter.is_alive():
        received = signal.sigtimedwait(STOP_SIGNALS, POLL_SECONDS)
        if received and received.si_pid == starter.pid:
            break
    os._exit(0)


@contextlib.contextmanager
def requeue_when_stopped():
    """Context in which a stop signal ends the process with REQUEUE at once, where there is nothing to save yet.

    Nor does a second signal change this code while the process ends: a scheduler may send several.
    """
    former = {number: signal.signal(number, _requeue) for number in STOP_SIGNALS}
    try:
        yield
    except SystemExit as end:
        if end.code == REQUEUE:
            former = dict.fromkeys(former, signal.SIG_IGN)
        raise
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def _requeue(number, frame):
    raise SystemExit(REQUEUE)


class StopSignals:
    """Context in which a stop signal is noted instead of ending the process; the main thread's only.

    Attributes:
        received (str or None): name of the first stop signal that came.
    """

    def __init__(self):
        self.received = None

    def __enter__(self):
        self._process = os.getpid()
        self._former = {number: signal.signal(number, self._note) for number in STOP_SIGNALS}
        return self

    def __exit__(self, *exception):
        for number, handler in self._former.items():
            signal.signal(number, handler)

    def _note(self, number, frame):
        # A child that was forked, as of a multiprocessing.Pool, must end when its parent, which then waits, says so.
        if os.getpid() != self._process:
            os._exit(128 + number)
        self.received = self.received or signal.Signals(number).name
