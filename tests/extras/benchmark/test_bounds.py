"""Bounds of devices: known ones, and measured ones by a clock that is set by hand."""

import itertools

import pytest
import torch

from pixpro_d2.extras.benchmark import bounds

GPU = torch.device("cuda")


@pytest.fixture(autouse=True)
def forget():
    bounds.bound_of.cache_clear()
    yield
    bounds.bound_of.cache_clear()


@pytest.mark.parametrize(
    "name, half, terabytes",
    [
        ("NVIDIA H200", 989, 4.8),
        ("NVIDIA H100 80GB HBM3", 989, 3.35),
        ("NVIDIA H100 PCIe", 756, 2.0),
        ("NVIDIA A100-SXM4-80GB", 312, 2.039),
        ("NVIDIA A100-PCIE-40GB", 312, 1.555),
    ],
)
def test_known_gpus(monkeypatch, name, half, terabytes):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: name)
    bound = bounds.bound_of(GPU, "half")
    assert (bound.flops, bound.bandwidth) == (half * 1e12, terabytes * 1e12) and "data sheet" in bound.source
    assert bounds.bound_of(GPU, "float32").flops < bounds.bound_of(GPU, "tf32").flops < half * 1e12


def test_names_are_whole_words(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA GH200 480GB")
    monkeypatch.setattr(bounds, "measured_bound", lambda device, dtype: "measured")
    assert bounds.bound_of(GPU, "half") == "measured"  # it has other memory than an H200


def test_measured_bounds_are_those_of_the_fastest(monkeypatch):
    # The first, which takes no time at all, is for warming up; products take 2, 1, 3, 3, 3 s, copies 4 s and 0.5 s.
    taken = [0, 2, 1, 3, 3, 3, 0, 4, 4, 4, 4, 0.5]
    clock = itertools.chain.from_iterable((0, seconds) for seconds in taken)
    monkeypatch.setattr(bounds.time, "perf_counter", lambda: next(clock))
    bound = bounds.measured_bound(torch.device("cpu"), torch.float32, side=8, copied=1000)
    assert bound.flops == 2 * 8 * 8 * 8  # products and sums in 1 s
    assert bound.bandwidth == 2 * 1000 / 0.5  # read and written
    assert "measured" in bound.source


def test_unknown_devices_are_measured_once(monkeypatch):
    calls = []
    monkeypatch.setattr(bounds, "measured_bound", lambda device, dtype: calls.append(dtype))
    bounds.bound_of(torch.device("cpu"), "float32"), bounds.bound_of(torch.device("cpu"), "float32")
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "another GPU")
    bounds.bound_of(GPU, "half")
    assert calls == [torch.float32, torch.bfloat16]
