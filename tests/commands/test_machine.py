"""The device that a machine computes with."""

from types import SimpleNamespace

import pytest

from pixpro_d2.commands.machine import this_machine


@pytest.mark.parametrize(("asked", "device"), [("", "cpu"), ("auto", "cpu"), ("cpu", "cpu"), ("cuda:1", "cuda")])
def test_the_device_by_the_key(monkeypatch, asked, device):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    machine = this_machine(asked)
    assert (machine.device, machine.processes, machine.memory) == (device, 1, 0.0) and machine.cores >= 1


@pytest.mark.parametrize(("asked", "processes"), [("", 4), ("cuda", 4), ("cuda:1", 1), ("cpu", 1)])
def test_a_numbered_gpu_is_one(monkeypatch, asked, processes):
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 4)
    gib24 = SimpleNamespace(total_memory=24 * 2**30)
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda index: gib24)
    assert this_machine(asked).processes == processes
