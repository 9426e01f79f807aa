"""Running experiments as a user would, and what each of them leaves: a JSON file."""

import contextlib
import fcntl
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

import torch

from ..benchmark.report import processor
from ..checkpoint.resume import candidates
from ..errors import UsageError
from ..json_files import read_json, write_json
from ..report.curves import finite
from ..report.runs import read_run
from .data import ROOT, shown

PROGRAM = "train_net.py"
RECORD = "study.json"  # in the folder of an experiment: what it is of, and the seconds of each attempt to run it


def result_file(output, name):
    """Path of the result of the experiment ``name``."""
    return Path(output, "results", f"{name}.json")


def is_finished(experiment, output):
    """Whether the result of an experiment is there.

    Raises:
        UsageError: if it, or what there is of its run, is of other commands: a changed recipe, another pre-training to
            begin with, or other data.
    """
    path, folder = result_file(output, experiment.name), _folder(output, experiment.name)
    result, expected = read_json(path), commands(experiment, output)
    for found in filter(None, (result, read_json(folder / RECORD))):
        if any(found.get(key) != command for key, command in expected.items()):
            raise UsageError(
                f"{experiment.name} is of an earlier study with other options or data: remove {path} and {folder}, or "
                "choose another output folder."
            )
    return result is not None


def commands(experiment, output):
    """What a result is of, dict: the ``command`` and that of the ``pretraining`` it begins with, or None."""
    return {
        "command": _shell(experiment, output),
        "pretraining": experiment.weights and _shell(experiment.weights, output),
    }


def _shell(experiment, output):
    return shlex.join(["python", *arguments(experiment, output)])


def arguments(experiment, output):
    """The command line of an experiment, behind ``python``, as it is given in the checkout."""
    options = {**experiment.options, "MODEL.WEIGHTS": "", "OUTPUT_DIR": shown(_folder(output, experiment.name))}
    if experiment.weights:
        options["MODEL.WEIGHTS"] = shown(_folder(output, experiment.weights.name) / "model_final.pth")
    words = [str(word) for pair in options.items() for word in pair]
    return [PROGRAM, "--config-file", experiment.config, *words]


def run(experiment, output):
    """Run an experiment to its end, or go on with it where it was interrupted, and write its result.

    Returns:
        dict: the result: ``name``, those of :func:`commands`, ``metrics`` (the last value of all that was recorded,
        where it is finite), ``seconds`` (of all attempts; ``resumed`` says whether there were several) and ``machine``.

    Raises:
        UsageError: if it fails, is interrupted, or runs already; its output is in ``runs/NAME.log``.
    """
    folder, of = _folder(output, experiment.name), commands(experiment, output)
    folder.mkdir(parents=True, exist_ok=True)
    with _held(folder) as lock:
        attempts, resumed = _attempt(experiment, of, arguments(experiment, output), folder, lock)
    curves = read_run(folder, experiment.name).curves
    result = {
        "name": experiment.name,
        **of,
        "metrics": {name: curve[-1][1] for name, curve in curves.items() if finite(curve[-1:])},
        "seconds": round(sum(attempts), 1),
        "resumed": resumed or len(attempts) > 1,
        "machine": _machine(experiment),
    }
    path = result_file(output, experiment.name)
    path.parent.mkdir(exist_ok=True)
    write_json(path, result, indent=2)
    return result


@contextlib.contextmanager
def _held(folder):
    """Context with the descriptor of a file that one training at a time holds, also when its study was killed."""
    with open(folder / "lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UsageError(
                f"A training runs in {folder}, of another study or of one that was killed: wait for its end, or end it."
            ) from None
        yield file.fileno()


def _attempt(experiment, of, words, folder, lock):
    """Train; the seconds of this and all earlier attempts, and whether it went on from a checkpoint."""
    attempts = (read_json(folder / RECORD) or {"attempts": []})["attempts"]
    resumed = bool(candidates(str(folder)))  # where train_net.py finds any, it asks for --resume
    words[3:3] = ["--resume"] if resumed else []
    write_json(folder / RECORD, {**of, "attempts": attempts}, indent=2)
    begin = time.perf_counter()
    try:
        _train(words, experiment.name, folder.with_suffix(".log"), lock)
    finally:
        attempts = [*attempts, round(time.perf_counter() - begin, 1)]
        write_json(folder / RECORD, {**of, "attempts": attempts}, indent=2)
    return attempts, resumed


def _train(words, name, log, lock):
    """Run a Python command in the checkout, its output at the end of ``log``; what interrupts this ends it as well.

    It holds the descriptor ``lock`` as long as it runs.
    """
    with open(log, "a", encoding="utf-8") as file:
        # In a session of its own, so that an interruption at the terminal reaches it as the signal to save and end.
        process = subprocess.Popen(
            [sys.executable, *words],
            cwd=ROOT,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=(lock,),
        )
        try:
            code = process.wait()
        except KeyboardInterrupt:
            raise UsageError(f"{name} was interrupted: run the study again to go on with it.") from None
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
    if code:
        raise UsageError(f"{name} ended with exit code {code}: see {log}, and run the study again.")


def read_results(output):
    """dict of name to result for all experiments that are finished."""
    found = (read_json(path) for path in sorted(Path(output, "results").glob("*.json")))
    return {result["name"]: result for result in found if result}


def _machine(experiment):
    """What an experiment runs on, in words, and with which PyTorch."""
    on_gpu = torch.cuda.is_available() and experiment.options.get("MODEL.DEVICE") != "cpu"
    device = torch.cuda.get_device_name() if on_gpu else f"{os.cpu_count()} cores of {processor()}"
    return f"{device}, PyTorch {torch.__version__}"


def _folder(output, name):
    return Path(output, "runs", name)
