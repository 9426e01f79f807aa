"""Run an experiment as a user would, and write its result as a JSON file."""

import fcntl
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

from ...checkpoint.folder import LAST, checkpoint_names
from ...checkpoint.resume import candidates
from ...command_line import as_words
from ...monitoring.curves import finite
from ...utils.errors import UsageError
from ...utils.files import read_json, write_json
from ...utils.machine import processor, usable_cores
from ..report.runs import read_run
from .data import shown
from .experiments import Experiment
from .recipes import ROOT

PROGRAM = "train_net.py"  # program name in printed and compared commands
LAUNCHER = ("-m", "pixpro_d2.engine.main")  # the same program; it also runs without a checkout
RECORD = "study.json"  # in the folder of an experiment: its commands, and the seconds of each attempt


def result_file(output: str | Path, name: str) -> Path:
    """Return the path of the result of the experiment ``name``."""
    return Path(output, "results", f"{name}.json")


def is_finished(experiment: Experiment, output: str | Path) -> bool:
    """Return whether an experiment has a result.

    Raises:
        UsageError: if the result or the run belongs to other commands: another recipe, pre-training or data.
    """
    path, folder = result_file(output, experiment.name), run_folder(output, experiment.name)
    result, expected = read_json(path), commands(experiment, output)
    for found in filter(None, (result, read_json(folder / RECORD))):
        if any(found.get(key) != command for key, command in expected.items()):
            raise UsageError(
                f"{experiment.name} is of an earlier command with other options or data: remove {path} and {folder}, "
                "or choose another output folder."
            )
    return result is not None


def commands(experiment: Experiment, output: str | Path) -> dict[str, str | None]:
    """Return the ``command`` of an experiment, and the command of its ``pretraining`` or None."""
    return {
        "command": _shell(experiment, output),
        "pretraining": _shell(experiment.weights, output) if experiment.weights else None,
    }


def _shell(experiment: Experiment, output: str | Path) -> str:
    return shlex.join(["python", *arguments(experiment, output)])


def arguments(experiment: Experiment, output: str | Path) -> list[str]:
    """Return the command line of an experiment in the checkout, without ``python``."""
    options = {**experiment.options, "MODEL.WEIGHTS": "", "OUTPUT_DIR": shown(run_folder(output, experiment.name))}
    if experiment.weights:
        options["MODEL.WEIGHTS"] = shown(run_folder(output, experiment.weights.name) / "model_final.pth")
    return [PROGRAM, "--config-file", experiment.config, *as_words(options)]


class Training:
    """Run an experiment in its own process, and append its output to ``runs/NAME.log``.

    The constructor starts the experiment, or resumes it after an interruption; :meth:`close` must follow.

    Attributes:
        experiment: running experiment.
    """

    def __init__(self, experiment: Experiment, output: Path, threads: int | None = None):
        """
        Args:
            experiment: experiment to run.
            output: folder of the study.
            threads: threads of the training; None for PyTorch's default.

        Raises:
            UsageError: if the experiment already runs.
        """
        self.experiment, self._output, self._threads = experiment, output, threads
        self._folder, self._of = run_folder(output, experiment.name), commands(experiment, output)
        self._folder.mkdir(parents=True, exist_ok=True)
        self._lock = _hold(self._folder)
        self._attempts = (read_json(self._folder / RECORD) or {"attempts": []})["attempts"]
        self._resumed = bool(candidates(str(self._folder)))  # train_net.py requires --resume if it finds a checkpoint
        self._record()
        self._begin = time.perf_counter()
        self._process = self._start()

    def _start(self) -> subprocess.Popen:
        words = arguments(self.experiment, self._output)
        words[3:3] = ["--resume"] if self._resumed else []
        threads = {} if self._threads is None else {"OMP_NUM_THREADS": str(self._threads)}
        with open(self._log, "a", encoding="utf-8") as file:
            # The training has its own session: an interruption at the terminal reaches it as the signal to save and
            # end. The training holds the lock while it runs, even if its study is killed.
            return subprocess.Popen(
                [sys.executable, *LAUNCHER, *words[1:]],
                cwd=ROOT,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                pass_fds=(self._lock,),
                env={**os.environ, **threads},
            )

    @property
    def _log(self) -> Path:
        return self._folder.with_suffix(".log")

    def _record(self) -> None:
        write_json(self._folder / RECORD, {**self._of, "attempts": self._attempts}, indent=2)

    def has_ended(self) -> bool:
        """Return whether the process has ended, with or without an error."""
        return self._process.poll() is not None

    def ask_to_end(self) -> None:
        """Ask a running process to save and end."""
        if not self.has_ended():
            self._process.terminate()

    def close(self) -> None:
        """Wait for the end of the process, and record its duration."""
        self._process.wait()
        self._attempts = [*self._attempts, round(time.perf_counter() - self._begin, 1)]
        self._record()
        os.close(self._lock)

    def write_result(self) -> dict:
        """Write and return the result of a training that is closed.

        Remove checkpoints that no other experiment starts from: hundreds of them would fill a disk.

        Returns:
            ``name``, the entries of :func:`commands`, and:

            * ``metrics``: last value of each recorded quantity, if it is finite;
            * ``seconds``: duration of all attempts;
            * ``resumed``: whether there were several attempts;
            * ``machine``: see :func:`_machine`.

        Raises:
            UsageError: if the training failed.
        """
        name, code = self.experiment.name, self._process.returncode
        if code:
            raise UsageError(f"{name} ended with exit code {code}: see {self._log}, and run the command again.")
        curves = read_run(self._folder, name).curves
        result = {
            "name": name,
            **self._of,
            "metrics": {metric: curve[-1][1] for metric, curve in curves.items() if finite(curve[-1:])},
            "seconds": round(sum(self._attempts), 1),
            "resumed": self._resumed or len(self._attempts) > 1,
            "machine": _machine(self.experiment, self._threads),
        }
        path = result_file(self._output, name)
        path.parent.mkdir(exist_ok=True)
        write_json(path, result, indent=2)
        if not self.experiment.handed_on:
            _remove_checkpoints(self._folder)
        return result


def _remove_checkpoints(folder: Path) -> None:
    for name in (*checkpoint_names(str(folder)), LAST):
        (folder / name).unlink(missing_ok=True)


def _hold(folder: Path) -> int:
    """Lock a file that only one training holds at a time, and return its descriptor."""
    descriptor = os.open(folder / "lock", os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise UsageError(
            f"A training of another command, or of a killed one, runs in {folder}: wait for its end, or end it."
        ) from None
    return descriptor


def read_results(output: str | Path) -> dict[str, dict[str, Any]]:
    """Return the results of all finished experiments by name."""
    found = (read_json(path) for path in sorted(Path(output, "results").glob("*.json")))
    return {result["name"]: result for result in found if result}


def _machine(experiment: Experiment, threads: int | None) -> str:
    """Return the device of an experiment in words, and the version of PyTorch."""
    on_gpu = torch.cuda.is_available() and experiment.options.get("MODEL.DEVICE") != "cpu"
    cores = f"{usable_cores()} cores" if threads is None else f"{threads} of {usable_cores()} cores"
    device = torch.cuda.get_device_name() if on_gpu else f"{cores} of {processor()}"
    return f"{device}, PyTorch {torch.__version__}"


def run_folder(output: str | Path, name: str) -> Path:
    """Return the folder of the experiment ``name``, its OUTPUT_DIR."""
    return Path(output, "runs", name)
