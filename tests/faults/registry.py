"""The faults: what each is called, how it is injected, and the function that does so and checks what must happen."""

import signal
import time
import traceback
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass

LIMIT_SECONDS = 600  # for any fault; a run that hangs fails
NOTHING = "nothing"

FAULTS = []


@dataclass(frozen=True)
class Fault:
    """
    Attributes:
        theme, name, how (str): of the table; the theme is the name of its module.
        quick (bool): within seconds, in one process; part of the test suite.
        inject (Callable[[Runs], tuple[str, str]]): asserts what must happen; returns what happened, and what was lost.
    """

    theme: str
    name: str
    how: str
    quick: bool
    inject: Callable


@dataclass(frozen=True)
class Result:
    """What came of a fault; ``lost`` is None if it was not survived."""

    fault: Fault
    happened: str
    lost: str | None
    seconds: float


def fault(name, how, quick=False):
    """Decorator that registers a function as the fault ``name``."""

    def register(inject):
        FAULTS.append(Fault(inject.__module__.rpartition(".")[2], name, how, quick, inject))
        return inject

    return register


def try_fault(fault, runs):
    """Inject a fault, for at most LIMIT_SECONDS.

    Returns:
        Result: in ``happened`` the last line of the exception if a check failed, whose traceback is printed.
    """
    began = time.monotonic()
    try:
        with time_limit(LIMIT_SECONDS):
            happened, lost = fault.inject(runs)
    except Exception as error:
        traceback.print_exc()
        happened, lost = f"{type(error).__name__}: {' '.join(str(error).split())[-300:]}", None
    finally:
        runs.close()
    return Result(fault, happened, lost, time.monotonic() - began)


@contextmanager
def time_limit(seconds):
    """Context that raises a TimeoutError in the main thread when it lasts longer."""

    def stop(number, frame):
        raise TimeoutError(f"still going after {seconds} s")

    former = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, former)
