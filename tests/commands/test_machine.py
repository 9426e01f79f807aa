"""The device that a machine computes with."""

import pytest

from pixpro_d2.commands.machine import this_machine


@pytest.mark.parametrize(("asked", "device"), [("", "cpu"), ("auto", "cpu"), ("cpu", "cpu"), ("cuda:1", "cuda")])
def test_the_device_by_the_key(monkeypatch, asked, device):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    machine = this_machine(asked)
    assert (machine.device, machine.processes, machine.memory) == (device, 1, 0.0) and machine.cores >= 1
