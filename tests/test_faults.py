"""The faults that ``python tests/faults`` injects into processes, and the small forms of the fuzz and the soak.

Those that take seconds, in this process unless they need one of their own; and one of each theme of which none does in
a process too, as the script runs them all.
"""

import json

import pytest
import torch
from faults import soak
from faults.fuzz import KINDS, fuzz
from faults.memory import slope
from faults.registry import Fault, Result
from faults.runs import NETWORK, Runs
from faults.table import markdown
from faults.themes import FAULTS, THEMES
from PIL import Image

import configs

QUICK = {fault.name: fault for fault in FAULTS if fault.quick}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as the commands have: other numbers of threads round differently
    yield Runs(tmp_path_factory.mktemp("faults"), in_process=True)
    torch.set_num_threads(threads)


def test_the_table_is_large_enough():
    assert len({fault.name for fault in FAULTS}) == len(FAULTS) >= 25
    assert {fault.theme for fault in FAULTS} == set(THEMES)


@pytest.mark.slow
@pytest.mark.parametrize("name", QUICK)
def test_fault(runs, name):
    check(QUICK[name], runs)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["divergence", "unknown config key"])
def test_fault_in_a_process(tmp_path, name):
    check(QUICK[name], Runs(tmp_path))


def check(fault, runs):
    try:
        happened, lost = fault.inject(runs)
    finally:
        runs.close()
    assert happened and lost


def test_markdown():
    later, earlier = (Fault(theme, f"of {theme}", "a | b", True, None) for theme in ("mistakes", "disk"))
    text = markdown([Result(later, "stopped", "nothing", 1.0), Result(earlier, "hung", None, 2.0)])
    assert text.count("###") == 2 and text.index(THEMES["disk"]) < text.index(THEMES["mistakes"])
    assert "| of mistakes | a \\| b | stopped | nothing |" in text
    assert "| of disk | a \\| b | hung | **not survived** |" in text


def test_slope_is_that_of_the_second_half():
    """Half a second an iteration, 3 MB a second in the workers for 10 of 20 s, 0.01 MB a second in the process."""
    samples = [(float(t), 500 + 0.01 * t, 3.0 * min(t, 10)) for t in range(20)]
    assert slope(samples, 0.5) == pytest.approx([5.0, 0.0], abs=1e-6)
    assert slope(samples[:4], 0.5) == [0.0, 0.0]


@pytest.mark.parametrize("kind", KINDS)
def test_fuzz(tmp_path, kind):
    counts, findings = fuzz(kind, range(60), 0, tmp_path)
    assert not findings
    assert counts["worked"] > 0 and counts["refused"] > 0  # harm of both kinds


@pytest.mark.slow
def test_soak(tmp_path):
    with pytest.raises(SystemExit) as end:  # the memory of such short runs says nothing
        soak.main(soak_words(tmp_path / "soak", iterations=30, kills=2, flat=1e6), fork=True)
    report = json.loads((tmp_path / "soak" / "soak.json").read_text())
    assert not end.value.code and report["equal"] and len(report["kills"]) == report["resumes"] == 2
    assert all(megabytes > 50 for _, megabytes, _ in report["memory"]["straight"][1:])
    assert Image.open(tmp_path / "soak" / "memory.png").width > 500


@pytest.mark.parametrize(
    "growth, equal, code, said",
    [
        ([2.0, -1.0], True, 0, ["+2.0 MB", "workers -1.0 MB: flat", "equal to the bit"]),
        ([2.1, 0.0], True, 1, ["NOT FLAT, at most 2 MB"]),
        ([0.0, 2.1], True, 1, ["NOT FLAT"]),
        ([0.0, 0.0], False, 1, ["flat", "DIFFER"]),
    ],
)
def test_soak_fails_if_memory_grows_too_much_or_weights_differ(growth, equal, code, said):
    text, ended = soak.verdict(growth, 2.0, equal)
    assert ended == code and all(words in text for words in said)


def soak_words(folder, **options):
    """Arguments of the script, with the smallest network."""
    tiny = [*configs.TINY[: configs.TINY.index("SOLVER.MAX_EPOCHS")], *NETWORK, "SOLVER.CHECKPOINT_PERIOD", 3]
    words = [folder, *(f"--{name}={value}" for name, value in options.items()), "--seconds", 0.2, 0.4, *tiny]
    return list(map(str, words))
