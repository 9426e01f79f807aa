"""The number of cores and the memory of a process."""

import sys
from types import SimpleNamespace

import pytest
import torch

from pixpro_d2.utils.machine import peak_memory, usable_cores


@pytest.mark.parametrize(
    "files, cores",
    [
        ({}, 4),
        ({"cpu.max": "max 100000\n"}, 4),
        ({"cpu.max": "250000 100000\n"}, 3),
        ({"cpu.max": "50000 100000\n"}, 1),
        ({"cpu.max": "6400000 100000\n"}, 4),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, 4),
        ({"cpu/cpu.cfs_quota_us": "200000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 2),
    ],
)
def test_a_quota_of_a_container_counts(files, cores, tmp_path, monkeypatch):
    """Of 4 cores that the process sees."""
    monkeypatch.setattr("os.sched_getaffinity", lambda process: {0, 1, 2, 5})
    monkeypatch.setattr("pixpro_d2.utils.machine.CGROUP", tmp_path)
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    assert usable_cores() == cores


@pytest.mark.parametrize("system, size", [("linux", 3 * 1024), ("darwin", 3)])
def test_the_peak_memory_is_in_bytes(system, size, monkeypatch):
    """Linux counts KiB, macOS bytes."""
    monkeypatch.setattr(sys, "platform", system)
    monkeypatch.setattr("resource.getrusage", lambda who: SimpleNamespace(ru_maxrss=3))
    assert peak_memory(torch.device("cpu")) == size
