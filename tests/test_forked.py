"""Forked processes are as those of an interpreter, but for the imports."""

import importlib
import os
import signal
import subprocess
import sys

import forked
import pytest

PROGRAM = """
import os, sys
known = {"torch", "detectron2", "pixpro_d2"} <= set(sys.modules)
print(known, os.getcwd(), os.environ.get("WHAT"), os.getsid(0) == os.getpid(), sys.argv[1:], __name__)
print("said", file=sys.stderr)
END
"""


@pytest.fixture
def start(tmp_path):
    """Function that starts the program with an END of its own; returns it, and the file of its output."""

    def start(end):
        path = tmp_path / "program.py"
        path.write_text(PROGRAM.replace("END", end))
        return forked.Program(str(path), ["a", 1], tmp_path / "log.txt", {"WHAT": "mine"}), tmp_path / "log.txt"

    return start


@pytest.mark.parametrize(
    ("end", "code", "said"),
    [
        ("", 0, ""),
        ("sys.exit(75)", 75, ""),
        ("sys.exit('error: a mistake')", 1, "error: a mistake\n"),
        ("os.kill(os.getpid(), 9)", -9, ""),
    ],
)
def test_output_and_exit_code(start, end, code, said):
    program, log = start(end)
    assert program.wait(60) == program.poll() == program.returncode == code
    assert log.read_text() == f"True {forked.ROOT} mine True ['a', '1'] __main__\nsaid\n{said}"


def test_an_exception_is_shown(start):
    program, log = start("raise ArithmeticError('a fault')")
    assert program.wait(60) == 1
    assert "Traceback" in log.read_text() and log.read_text().endswith("ArithmeticError: a fault\n")


def test_a_program_that_goes_on_is_told_to_end(start):
    program, _ = start("import time; time.sleep(1000)")
    with pytest.raises(subprocess.TimeoutExpired):
        program.wait(0.1)
    assert program.poll() is None
    program.terminate()
    assert program.wait(60) == -signal.SIGTERM
    with pytest.raises(ProcessLookupError):
        os.killpg(program.pid, 0)


def test_a_program_of_the_study(tmp_path):
    """It is a module, whose output is appended to the log."""
    with open(tmp_path / "log.txt", "w") as file:
        file.write("before\n")
        file.flush()
        command = [sys.executable, "-m", "this", "x"]
        program = forked.popen(command, cwd=forked.ROOT, stdout=file, env=os.environ)
    assert program.wait(60) == 0
    assert (tmp_path / "log.txt").read_text().startswith("before\nThe Zen of Python")


@pytest.mark.parametrize("name", forked.IMPORTED)
def test_what_is_imported_before_exists(name):
    """The server passes over what it cannot import."""
    importlib.import_module(name)
