"""Handle the signals by which a scheduler asks a run to stop, so that the run can save a checkpoint first."""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from multiprocessing import resource_tracker
from multiprocessing.process import BaseProcess
from types import FrameType

# Schedulers send SIGTERM before a pre-emption or at a job's time limit. SLURM can send SIGUSR1 earlier on request.
STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR1)
# Exit code of a run that a stop signal ended: all is saved, the scheduler may start the same command with --resume.
REQUEUE = os.EX_TEMPFAIL
POLL_SECONDS = 1.0  # a worker checks at this interval whether its main process still exists
_CAN_IGNORE = hasattr(signal, "sigtimedwait")  # macOS lacks sigtimedwait, and no scheduler runs there


@contextlib.contextmanager
def stop_signals_held() -> Iterator[None]:
    """Block stop signals inside the context; workers forked there must call :func:`ignore_stop_signals`.

    A signal reaches any thread of the process that does not block the signal. A worker can have such threads before its
    first call: Python finalizes loaders of the parent process, which starts threads. If workers are not forked,
    Python's helper processes also start in this context, so they survive the signals, too.
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


def ignore_stop_signals() -> None:
    """Ignore stop signals in a worker process unless the process that started the worker sent them.

    A scheduler signals all processes of a job at once. The workers of a data loader must survive the signal, because
    the main process first finishes its iteration. When the main process has ended, the worker ends, too. The parent
    process is no criterion: a fork server lives as long as its workers.
    """
    if _CAN_IGNORE:
        signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
        threading.Thread(target=_end_with, args=(multiprocessing.parent_process(),), daemon=True).start()


def _end_with(starter: BaseProcess) -> None:
    while starter.is_alive():
        received = signal.sigtimedwait(STOP_SIGNALS, POLL_SECONDS)
        if received and received.si_pid == starter.pid:
            break
    os._exit(0)


@contextlib.contextmanager
def requeue_when_stopped() -> Iterator[None]:
    """End the process at once with exit code REQUEUE if a stop signal arrives inside the context.

    Use the context while there is nothing to save yet. Further signals do not change the exit code while the process
    ends; a scheduler may send several.
    """
    process = os.getpid()

    def requeue(number: int, frame: FrameType | None) -> None:
        _end_forked_child(process, number)
        raise SystemExit(REQUEUE)

    former: dict = {number: signal.signal(number, requeue) for number in STOP_SIGNALS}
    try:
        yield
    except SystemExit as end:
        if end.code == REQUEUE:
            former = dict.fromkeys(former, signal.SIG_IGN)
        raise
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def _end_forked_child(process: int, number: int) -> None:
    """End this process if it is a forked child of ``process``.

    A child, such as a worker of a multiprocessing.Pool, must end when its waiting parent terminates it.
    """
    if os.getpid() != process:
        os._exit(128 + number)


class StopSignals:
    """Record stop signals inside the context instead of ending the process; for the main thread only.

    Attributes:
        received: name of the first stop signal that arrived, or None.
    """

    def __init__(self) -> None:
        self.received: str | None = None

    def __enter__(self) -> "StopSignals":
        self._process = os.getpid()
        self._former = {number: signal.signal(number, self._note) for number in STOP_SIGNALS}
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        _end_forked_child(self._process, number)
        self.received = self.received or signal.Signals(number).name
