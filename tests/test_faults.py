"""Faults that take seconds, as ``python tests/faults`` injects them, and the small forms of the fuzz and the soak."""

import json
import subprocess
import sys

import cli
import pytest
import torch
from faults.fuzz import KINDS, fuzz
from faults.runs import NETWORK, Runs
from faults.themes import FAULTS
from PIL import Image

import configs


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as the commands have: other numbers of threads round differently
    yield Runs(tmp_path_factory.mktemp("faults"))
    torch.set_num_threads(threads)


def test_the_table_is_large_enough():
    assert len({fault.name for fault in FAULTS}) == len(FAULTS) >= 25


@pytest.mark.slow
@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault.quick], ids=lambda fault: fault.name)
def test_fault(runs, fault):
    happened, lost = fault.inject(runs)
    assert happened and lost


@pytest.mark.parametrize("kind", KINDS)
def test_fuzz(tmp_path, kind):
    counts, findings = fuzz(kind, range(60), 0, tmp_path)
    assert not findings
    assert counts["worked"] > 0 and counts["refused"] > 0  # harm of both kinds


@pytest.mark.slow
def test_soak(tmp_path):
    """30 iterations, 2 kills."""
    tiny = configs.TINY[: configs.TINY.index("SOLVER.MAX_EPOCHS")]
    words = [tmp_path / "soak", "--iterations", 30, "--seconds", 0.2, 0.4, "--kills", 2, *tiny, *NETWORK]
    command = [sys.executable, "tests/faults/soak.py", *map(str, words), "SOLVER.CHECKPOINT_PERIOD", "3"]
    done = subprocess.run(command, cwd=cli.ROOT, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads((tmp_path / "soak" / "soak.json").read_text())
    assert report["equal"] and len(report["kills"]) == report["resumes"] == 2
    assert all(megabytes > 50 for _, megabytes, _ in report["memory"]["straight"][1:])
    assert Image.open(tmp_path / "soak" / "memory.png").width > 500
