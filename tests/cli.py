"""Running train_net.py as a user does."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import forked

from pixpro_d2.engine import argument_parser
from pixpro_d2.engine.main import main

ROOT = Path(__file__).resolve().parent.parent
FRESH = (sys.executable,)  # launcher: an interpreter that imports all by itself, as a user's does


def train_net(*args, launcher=()):
    """Run train_net.py with ``args``; returns (exit code, output).

    Args:
        launcher (tuple[str]): words before the program, such as a fresh interpreter; by default the process is forked.
    """
    if not launcher:
        with tempfile.NamedTemporaryFile("r", errors="replace") as log:
            program = forked.Program("train_net.py", args, log.name)
            try:
                return program.wait(400), log.read()
            finally:
                program.kill()
    command = [*launcher, "train_net.py", *map(str, args)]
    env = dict(os.environ, OMP_NUM_THREADS="1")
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=400, env=env)
    return done.returncode, done.stdout + done.stderr


def run(*args, **kwargs):
    """As :func:`train_net`, for a run that must succeed; returns its output."""
    code, output = train_net(*args, **kwargs)
    assert code == 0, output[-4000:]
    return output


def run_here(*args):
    """As :func:`run`, but in this process; returns what its main function returns and raises what it raises."""
    words = list(map(str, args))
    words[words.index("--config-file") + 1] = str(ROOT / words[words.index("--config-file") + 1])
    return main(argument_parser().parse_args(words))


def metrics(folder):
    """The lines of metrics.json."""
    return [json.loads(line) for line in (Path(folder) / "metrics.json").read_text().splitlines()]


def option_list(opts):
    """KEY, VALUE, ... as command-line words."""
    return [str(opt) for opt in opts]
