"""How processes end together: real processes that sleep, fail and are killed; seconds instead of days."""

import faulthandler
import multiprocessing
import os
import signal
import sys
import time

import pytest

from pixpro_d2.engine import supervisor
from pixpro_d2.utils.signals import REQUEUE, STOP_SIGNALS, StopSignals

FORK = multiprocessing.get_context("fork")


@pytest.fixture(autouse=True)
def short_grace(monkeypatch):
    monkeypatch.setattr(supervisor, "GRACE_SECONDS", 1.0)
    monkeypatch.setattr(supervisor, "POLL_SECONDS", 0.05)
    monkeypatch.setattr(supervisor, "REQUEUE_SECONDS", 4.0)


def work(seconds, sender=None, code=0, message="error: after {} s"):
    """Body of a process: sleep, send a report if given a pipe, and exit."""
    time.sleep(seconds)
    if sender is not None:
        sender.send((time.time(), message.format(seconds)))
    sys.exit(code)


def break_off(sender):
    """Send half a report: its length, and less than that."""
    os.write(sender.fileno(), b"\0\0\0\x10half")
    kill_itself(signal.SIGKILL)


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


def end_soon(seconds):
    """As a process that has done its last iteration when the signal comes."""
    with StopSignals():
        time.sleep(seconds)
    sys.exit(0)


def save_when_asked(seconds):
    with StopSignals() as signals:
        while signals.received is None:
            time.sleep(0.02)
        time.sleep(seconds)
        sys.exit(REQUEUE)


def kill_itself(number):
    faulthandler.disable()  # pytest's, which would print where
    os.kill(os.getpid(), number)


def run(*bodies, then=None):
    """What supervise returns for processes of these (function, arguments, reports?), the seconds it took, and the
    processes' exit codes."""
    processes, reports, senders = {}, {}, []
    for rank, (function, args, reporting) in enumerate(bodies):
        reports[rank], sender = FORK.Pipe(duplex=False)
        senders.append(sender)
        processes[rank] = FORK.Process(target=function, args=(*args, *([sender] if reporting else [])))
    with StopSignals() as signals:
        for process in processes.values():
            process.start()
        for sender in senders:
            sender.close()
        if then:
            then()
        start = time.monotonic()
        verdict = supervisor.supervise(processes, reports, signals)
    return verdict, time.monotonic() - start, [process.exitcode for process in processes.values()]


def fail(seconds):
    """A process that reports after some seconds, and ends with code 1."""
    return lambda sender: work(seconds, sender, 1), (), True


def test_all_end_well():
    assert run((work, (0.1,), False), (work, (0.3,), False))[0] == (0, "")


def test_a_process_may_work_alone_for_longer_than_the_grace_period():
    verdict, seconds, codes = run((work, (2.0,), False), (work, (0.0,), False))
    assert verdict == (0, "") and seconds > 1.8 and codes == [0, 0]


def test_one_that_fails_takes_down_one_that_hangs():
    ready = FORK.Event()
    verdict, seconds, codes = run((hang, (ready,), False), fail(0.2), then=lambda: ready.wait(20))
    assert verdict == (1, "error: after 0.2 s") and codes == [-signal.SIGKILL, 1]
    assert 0.9 < seconds < 5


def test_the_first_report_counts():
    """Not that of the lower rank."""
    assert run(fail(0.5), fail(0.1))[0] == (1, "error: after 0.1 s")


def test_a_report_longer_than_the_pipe():
    message = "error: " + 10**6 * "long"
    long = (lambda sender: work(0.1, sender, 1, message), (), True)
    verdict, _, codes = run(long, (work, (0.2,), False))
    assert verdict == (1, message) and codes == [1, 0]


def test_a_report_that_breaks_off():
    assert run((break_off, (), True), (work, (0.1,), False))[0][0] == 137


def test_who_is_killed_counts_before_those_that_lost_it():
    verdict, _, _ = run(fail(0.0), (kill_itself, (signal.SIGKILL,), False))
    assert verdict[0] == 137 and verdict[1].startswith("error: rank 1 was killed by SIGKILL, as the system does")
    verdict, _, _ = run(fail(0.0), (kill_itself, (signal.SIGSEGV,), False))
    assert verdict == (139, "error: rank 1 was killed by SIGSEGV.")


def test_an_abort_may_be_a_consequence():
    assert run(fail(0.0), (kill_itself, (signal.SIGABRT,), False))[0] == (1, "error: after 0.0 s")
    verdict, _, _ = run((work, (0.2,), False), (kill_itself, (signal.SIGABRT,), False))
    assert verdict == (134, "error: rank 1 was killed by SIGABRT.")


def test_an_exit_code_of_its_own():
    assert run((work, (0.0,), False), (work, (0.1, None, 3), False))[0] == (3, "error: rank 1 ended with exit code 3.")


def test_a_stop_signal_is_handed_on_and_all_have_time_to_save():
    """Longer than the grace period: one that ends to be queued again is no failure."""

    def stop():
        time.sleep(0.3)
        os.kill(os.getpid(), signal.SIGUSR1)

    verdict, seconds, codes = run((save_when_asked, (2.0,), False), (save_when_asked, (0.0,), False), then=stop)
    assert verdict == (REQUEUE, "") and codes == [REQUEUE, REQUEUE] and seconds > 1.8


def test_processes_that_agree_to_stop_by_themselves():
    """The signal came to one of them only, not to this process."""
    assert run((work, (0.1, None, REQUEUE), False), (work, (0.2, None, REQUEUE), False))[0] == (REQUEUE, "")


def test_one_that_hangs_when_all_is_saved_does_not_keep_the_others():
    ready = FORK.Event()
    verdict, seconds, codes = run(
        (work, (0.1, None, REQUEUE), False), (hang, (ready,), False), then=lambda: ready.wait(20)
    )
    assert verdict == (REQUEUE, "") and codes == [REQUEUE, -signal.SIGKILL]
    assert 4.5 < seconds < 12  # and the grace period


def test_a_stop_signal_when_the_run_is_complete():
    def stop():
        time.sleep(0.3)
        os.kill(os.getpid(), signal.SIGTERM)

    assert run((end_soon, (0.5,), False), (end_soon, (0.7,), False), then=stop)[0] == (0, "")


def test_a_stop_signal_before_they_listen_to_it():
    ready = [FORK.Event(), FORK.Event()]

    def stop():
        assert all(event.wait(20) for event in ready)
        os.kill(os.getpid(), signal.SIGTERM)

    verdict, _, codes = run(*((hear_nothing, (event,), False) for event in ready), then=stop)
    assert verdict == (REQUEUE, "") and codes == [-signal.SIGTERM, -signal.SIGTERM]


def test_a_failure_while_stopping_is_a_failure():
    def stop():
        time.sleep(0.3)
        os.kill(os.getpid(), signal.SIGTERM)

    body = (save_when_asked, (0.5,), False)
    verdict, _, _ = run(body, (kill_itself, (signal.SIGKILL,), False), then=stop)
    assert verdict[0] == 137
