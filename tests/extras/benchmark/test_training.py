"""What slows a step down unseen: copied gradients, and waits for a GPU, which a double stands for."""

import warnings
from types import SimpleNamespace

import torch
from benchmark_helpers import C5, measured
from torch import nn

from pixpro_d2.extras.benchmark.step import TrainingStep
from pixpro_d2.extras.benchmark.training import copied_gradients, waits


def test_gradients_that_lie_otherwise_are_counted():
    model = nn.Sequential(nn.Conv2d(2, 3, 3), nn.Conv2d(3, 2, 3), nn.Conv2d(2, 4, 1), nn.Linear(2, 2))
    model.to(memory_format=torch.channels_last)
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    model[3].bias.grad = None
    assert copied_gradients(SimpleNamespace(model=model)) == 0
    for convolution in model[1:3]:
        convolution.weight.grad = torch.zeros(convolution.weight.shape)  # rows of pixels; sides of 1 make no difference
    assert copied_gradients(SimpleNamespace(model=model)) == 1


def test_on_the_cpu_nothing_waits():
    training = TrainingStep(measured(C5, batch=2))
    training.step()
    assert waits(training) is None and copied_gradients(training) >= 0


def test_waits_are_those_of_one_step_and_the_mode_is_put_back(monkeypatch):
    modes = []
    monkeypatch.setattr(torch.cuda, "get_sync_debug_mode", lambda: 0)
    monkeypatch.setattr(torch.cuda, "set_sync_debug_mode", modes.append)

    def step():
        assert modes == ["warn"]
        for _ in range(2):
            warnings.warn_explicit("called a synchronizing CUDA operation", UserWarning, "loss.py", 7)
        warnings.warn_explicit("something else", UserWarning, "loss.py", 8)

    assert waits(SimpleNamespace(device=torch.device("cuda"), step=step)) == ["loss.py:7", "loss.py:7"]
    assert modes == ["warn", 0]
