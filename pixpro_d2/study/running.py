"""Running experiments as a user would, and what each of them leaves: a JSON file."""

import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

import torch

from ..benchmark.report import processor
from ..errors import UsageError
from ..json_files import read_json, write_json
from ..report.curves import finite
from ..report.runs import read_run
from .data import ROOT, shown

PROGRAM = "train_net.py"


def result_file(output, name):
    """Path of the result of the experiment ``name``."""
    return Path(output, "results", f"{name}.json")


def is_finished(experiment, output):
    """Whether the result of an experiment is there.

    Raises:
        UsageError: if it is that of another command: a changed recipe, or other data.
    """
    result = read_json(result_file(output, experiment.name))
    if result is None:
        return False
    if result["command"] != shlex.join(["python", *arguments(experiment, output)]):
        raise UsageError(
            f"{result_file(output, experiment.name)} is of an earlier study with other options or data: remove it and "
            f"{_folder(output, experiment.name)}, or choose another output folder."
        )
    return True


def arguments(experiment, output):
    """The command line of an experiment, behind ``python``, as it is given in the checkout."""
    options = {**experiment.options, "MODEL.WEIGHTS": "", "OUTPUT_DIR": shown(_folder(output, experiment.name))}
    if experiment.weights:
        options["MODEL.WEIGHTS"] = shown(_folder(output, experiment.weights) / "model_final.pth")
    words = [str(word) for pair in options.items() for word in pair]
    return [PROGRAM, "--config-file", experiment.config, *words]


def run(experiment, output):
    """Run an experiment to its end, or go on with it where it was interrupted, and write its result.

    Returns:
        dict: the result: ``name``, ``command``, ``metrics`` (the last value of all that was recorded), ``seconds``
        (of the part that ran now; ``resumed`` says whether there was an earlier one) and ``machine``.

    Raises:
        UsageError: if it fails or is interrupted; its output is in ``runs/NAME.log``.
    """
    folder = _folder(output, experiment.name)
    folder.mkdir(parents=True, exist_ok=True)
    command = arguments(experiment, output)
    resumed = (folder / "last_checkpoint").is_file()
    words = [sys.executable, *command[:3], *(["--resume"] if resumed else []), *command[3:]]
    log = folder.with_suffix(".log")
    begin = time.perf_counter()
    with open(log, "a", encoding="utf-8") as file:
        # In a session of its own, so that an interruption at the terminal reaches it as the signal to save and end.
        process = subprocess.Popen(words, cwd=ROOT, stdout=file, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            code = process.wait()
        except KeyboardInterrupt:
            process.terminate()
            code = process.wait()
    if code:
        raise UsageError(f"{experiment.name} ended with exit code {code}: see {log}, and run the study again.")
    curves = read_run(folder, experiment.name).curves
    result = {
        "name": experiment.name,
        "command": shlex.join(["python", *command]),
        "metrics": {name: finite(curve)[-1][1] for name, curve in curves.items() if finite(curve)},
        "seconds": round(time.perf_counter() - begin, 1),
        "resumed": resumed,
        "machine": _machine(experiment),
    }
    path = result_file(output, experiment.name)
    path.parent.mkdir(exist_ok=True)
    write_json(path, result, indent=2)
    return result


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
