"""How processes end together: real processes that sleep, fail and are killed; seconds instead of days."""

import ctypes
import faulthandler
import multiprocessing
import os
import pickle
import signal
import sys
import time
from multiprocessing import util

import pytest
from torch.multiprocessing import start_processes

from pixpro_d2.engine.processes import supervisor
from pixpro_d2.utils.signals import REQUEUE, STOP_SIGNALS, StopSignals

FORK = multiprocessing.get_context("fork")
PR_SET_DUMPABLE = 4


@pytest.fixture(autouse=True)
def short_periods(monkeypatch):
    monkeypatch.setattr(supervisor, "POLL_SECONDS", 0.05)
    monkeypatch.setattr(supervisor, "REQUEUE_SECONDS", 4.0)


@pytest.fixture
def short_grace(monkeypatch):
    """For tests in which a process hangs."""
    monkeypatch.setattr(supervisor, "GRACE_SECONDS", 1.0)


def work(seconds, code=0):
    """Body of a process: sleep and exit."""
    time.sleep(seconds)
    sys.exit(code)


def fail(seconds, message="error: after {} s"):
    time.sleep(seconds)
    raise supervisor.Refusal(message.format(seconds))


def crash():
    raise ArithmeticError("error: a fault")


def break_off():
    """Write half an error."""
    pickle.dump = lambda text, file: file.write(pickle.dumps(text)[:-5]) and file.flush() or kill_itself(signal.SIGKILL)
    crash()


def fail_and_hang():
    """As a process whose threads of NCCL do not let it exit."""
    util.Finalize(None, time.sleep, args=(60,), exitpriority=1)
    fail(0.1)


def hang(ready):
    with StopSignals():
        ready.set()
        time.sleep(60)


def hear_nothing(ready):
    """As a process whose training has not begun."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    ready.set()
    time.sleep(60)


def end_soon(seconds, ready):
    """As a process that has done its last iteration when the signal comes."""
    with StopSignals():
        ready.set()
        time.sleep(seconds)
    sys.exit(0)


def save_when_asked(seconds, ready):
    with StopSignals() as signals:
        ready.set()
        while signals.received is None:
            time.sleep(0.02)
        time.sleep(seconds)
        sys.exit(REQUEUE)


def kill_itself(number):
    faulthandler.disable()  # pytest's, which would print where
    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0)  # no dump of the memory, which takes time
    os.kill(os.getpid(), number)


def run(*bodies, then=None):
    """Supervise processes of these (function, *arguments); return code and message, seconds and exit codes."""
    start = time.monotonic()
    with StopSignals() as signals:
        context = start_processes(_run_body, (bodies,), len(bodies), join=False, start_method="fork")
        if then:
            then()
        *verdict, refused = supervisor.supervise(context, 0, signals)
    assert not any(map(os.path.exists, context.error_files))
    assert refused == verdict[1].endswith("]")  # the mark of a Refusal
    return tuple(verdict), time.monotonic() - start, [process.exitcode for process in context.processes]


def _run_body(rank, bodies):
    function, *args = bodies[rank]
    function(*args)


def stop_by(number, ready):
    """A function that sends a stop signal to this process when all processes listen to theirs."""

    def stop():
        assert all(event.wait(20) for event in ready)
        os.kill(os.getpid(), number)

    return stop


def test_all_end_well():
    assert run((work, 0.1), (work, 0.3))[0] == (0, "")


def test_a_process_may_work_alone_for_longer_than_the_grace_period(short_grace):
    verdict, seconds, codes = run((work, 2.0), (work, 0.0))
    assert verdict == (0, "") and seconds > 1.8 and codes == [0, 0]


def test_one_that_fails_takes_down_one_that_hangs(short_grace):
    ready = FORK.Event()
    verdict, seconds, codes = run((hang, ready), (fail, 0.2), then=lambda: ready.wait(20))
    assert verdict == (1, "error: after 0.2 s [rank 1]") and codes == [-signal.SIGKILL, 1]
    assert 0.9 < seconds < 5


def test_the_first_report_counts(tmp_path):
    """Not that of the lower rank."""
    refusal = f"{supervisor.Refusal.__module__}.{supervisor.Refusal.__qualname__}"
    files = [tmp_path / "0", tmp_path / "1"]
    for file, word, seconds in zip(files, ("late", "early"), (20, 10)):
        file.write_bytes(pickle.dumps(f"Traceback\n{refusal}: error: {word}"))
        os.utime(file, (seconds, seconds))
    errors = supervisor._read_errors(list(map(str, files)))
    assert supervisor._verdict({0: 1, 1: 1}, errors, None) == (1, "error: early [rank 1]", True)
    assert not any(file.exists() for file in files)


def test_a_report_of_any_length():
    message = "error: " + 10**6 * "long"
    verdict, _, codes = run((fail, 0.1, message), (work, 0.2))
    assert verdict == (1, f"{message} [rank 0]") and codes == [1, 0]


def test_an_exception_is_told_with_its_traceback():
    (code, message), _, _ = run((work, 0.1), (crash,))
    first, *_, last, told = message.splitlines()
    assert (code, first, last) == (1, "Traceback (most recent call last):", "ArithmeticError: error: a fault")
    assert told == "error: rank 1 failed with the exception above."


def test_a_report_that_breaks_off():
    assert run((break_off,), (work, 0.1))[0][0] == 137


def test_one_that_fails_and_hangs_as_it_exits(short_grace):
    (code, message), seconds, codes = run((fail_and_hang,), (work, 0.0))
    assert (code, message) == (1, "error: after 0.1 s [rank 0]") and codes == [-signal.SIGKILL, 0] and seconds < 5


def test_an_interrupt_ends_all(short_grace):
    ready = FORK.Event()
    former = signal.signal(signal.SIGALRM, signal.default_int_handler)  # raises KeyboardInterrupt

    def interrupt():
        assert ready.wait(20)
        signal.setitimer(signal.ITIMER_REAL, 0.3)

    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run((hang, ready), then=interrupt)
    signal.signal(signal.SIGALRM, former)
    assert multiprocessing.active_children() == [] and time.monotonic() - start < 10


def test_who_is_killed_counts_before_those_that_lost_it():
    verdict, _, _ = run((fail, 0.0), (kill_itself, signal.SIGKILL))
    assert verdict[0] == 137 and verdict[1].startswith("error: rank 1 was killed by SIGKILL, as the system does")
    verdict, _, _ = run((fail, 0.0), (kill_itself, signal.SIGSEGV))
    assert verdict == (139, "error: rank 1 was killed by SIGSEGV.")


def test_an_abort_may_be_a_consequence():
    assert run((fail, 0.0), (kill_itself, signal.SIGABRT))[0] == (1, "error: after 0.0 s [rank 0]")
    verdict, _, _ = run((work, 0.2), (kill_itself, signal.SIGABRT))
    assert verdict == (134, "error: rank 1 was killed by SIGABRT.")


def test_an_exit_code_of_its_own():
    assert run((work, 0.0), (work, 0.1, 3))[0] == (3, "error: rank 1 ended with exit code 3.")


def test_a_stop_signal_is_handed_on_and_all_have_time_to_save(short_grace):
    """Longer than the grace period: one that ends to be queued again is no failure."""
    ready = [FORK.Event(), FORK.Event()]
    bodies = (save_when_asked, 2.0, ready[0]), (save_when_asked, 0.0, ready[1])
    verdict, seconds, codes = run(*bodies, then=stop_by(signal.SIGUSR1, ready))
    assert verdict == (REQUEUE, "") and codes == [REQUEUE, REQUEUE] and seconds > 1.8


def test_processes_that_agree_to_stop_by_themselves():
    """The signal came to one of them only, not to this process."""
    assert run((work, 0.1, REQUEUE), (work, 0.2, REQUEUE))[0] == (REQUEUE, "")


def test_one_that_hangs_when_all_is_saved_does_not_keep_the_others(short_grace):
    ready = FORK.Event()
    verdict, seconds, codes = run((work, 0.1, REQUEUE), (hang, ready), then=lambda: ready.wait(20))
    assert verdict == (REQUEUE, "") and codes == [REQUEUE, -signal.SIGKILL]
    assert 4.5 < seconds < 12  # and the grace period


def test_a_stop_signal_when_the_run_is_complete():
    ready = [FORK.Event(), FORK.Event()]
    bodies = (end_soon, 0.2, ready[0]), (end_soon, 0.4, ready[1])
    assert run(*bodies, then=stop_by(signal.SIGTERM, ready))[0] == (0, "")


def test_a_stop_signal_before_they_listen_to_it():
    ready = [FORK.Event(), FORK.Event()]
    verdict, _, codes = run(*((hear_nothing, event) for event in ready), then=stop_by(signal.SIGTERM, ready))
    assert verdict == (REQUEUE, "") and codes == [-signal.SIGTERM, -signal.SIGTERM]


def test_a_failure_while_stopping_is_a_failure():
    ready = FORK.Event()
    bodies = (save_when_asked, 0.5, ready), (kill_itself, signal.SIGKILL)
    verdict, _, _ = run(*bodies, then=stop_by(signal.SIGTERM, [ready]))
    assert verdict[0] == 137
