"""Memory of a step: of what is made and kept, and the batch that fits."""

import benchmark_helpers
import pytest
import torch
from detectron2.modeling import build_model
from detectron2.utils.events import EventStorage
from torch import nn

from pixpro_d2.engine.acceleration import accelerate
from pixpro_d2.extras.benchmark.live_memory import LiveMemory
from pixpro_d2.extras.benchmark.memory import GIB, largest_batch, memory_need
from pixpro_d2.extras.benchmark.sources import synthetic_batch
from pixpro_d2.modeling.pretrain.chunks import image_chunks
from pixpro_d2.utils.machine import peak_memory

HALF = ("SOLVER.AMP.ENABLED", True)  # the precision of a GPU, which the need is told for


def test_kept_and_peak_of_a_small_network():
    network, x = nn.Linear(8, 3), torch.ones(4, 8)
    with LiveMemory() as memory:
        loss = network(x).relu().sum()
        # The ReLU keeps its result, 4 * 3 floats; the linear layer keeps x, which was there before. And the sum.
        assert memory.alive() == 48 + 4
        assert max(memory.timeline) == 48 + 48  # input and output of the ReLU
        loss.backward()
        gradients = 4 * (3 * 8 + 3)
        assert gradients <= memory.alive() <= gradients + 8  # the graph is gone; the loss and its gradient may be there
    # Backward of the ReLU: its gradient, and what it keeps; the gradient of the sum is one number, expanded.
    assert max(memory.timeline) >= 48 + 48 + 4


def test_storages_count_once():
    x = torch.ones(10)
    with LiveMemory() as memory:
        views = [x[:5], x.view(2, 5)]
        assert memory.alive() == 0
        copy = x.clone()
        views += [copy[:3], copy.add_(1)]
        assert memory.alive() == 40
        del views, copy
        assert memory.alive() == 0 and max(memory.timeline) == 40


def saved_bytes(cfg, count):
    """What a forward pass in bfloat16 saves, as autograd says: storages that are not the model's."""
    torch.manual_seed(0)
    model = accelerate(cfg, build_model(cfg).train(), "cuda")
    own = {x.untyped_storage().data_ptr() for x in (*model.parameters(), *model.buffers())}
    saved = {}

    def pack(x):
        if x.untyped_storage().data_ptr() not in own:
            saved[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    batch = synthetic_batch(cfg, count)
    with (
        EventStorage(),
        torch.autocast("cpu", torch.bfloat16),
        torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x),
    ):
        losses = model(batch)
    assert losses
    return sum(saved.values())


@pytest.mark.parametrize("config", [benchmark_helpers.C5, benchmark_helpers.FPN])
def test_kept_per_image_is_what_autograd_saves(config):
    cfg = benchmark_helpers.measured(config, *HALF)
    need = memory_need(cfg, batches=(2, 4))
    expected = (saved_bytes(cfg, 4) - saved_bytes(cfg, 2)) / 2
    assert need["kept per image"] == pytest.approx(expected, rel=0.01)
    assert need["kept per image"] <= need["per image"] < 1.5 * need["kept per image"]


def test_parts_count_as_full_ones_and_once():
    x = torch.ones(4, 10)  # an image has 40 bytes

    def timeline(count):
        with LiveMemory() as memory:
            rows = [x[part].exp() + 1 for part in memory.parts(count, size=3)]
            assert len(rows) == count
            torch.cat(rows)
        return memory.timeline

    # Of the second part: a view, its exponentials beside the first part's result, both and the sum; then all results.
    two, four = timeline(2), timeline(4)
    assert two == [3 * 40, 3 * 80, 3 * 120, 2 * 80]
    assert four == [*two[:-1], 4 * 80]


def test_need_of_batches_worked_through_in_parts(monkeypatch):
    """A fine level: a part holds two images, so that the batches that tell the need come in one and in two."""
    cfg = benchmark_helpers.measured(benchmark_helpers.FPN, *HALF)
    monkeypatch.setattr(image_chunks, "__defaults__", (2 * 8**4,))  # pairs of P3
    need = memory_need(cfg)
    model = accelerate(cfg, build_model(cfg).train(), "cuda")
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    for count, above in ((4, 0.01), (6, 0.06)):
        with EventStorage(), LiveMemory() as memory:
            with torch.autocast("cpu", torch.bfloat16):
                loss = sum(model(synthetic_batch(cfg, count)).values())
            loss.backward()
        peak = max(memory.timeline)
        assert 0.999 * peak <= need["fixed"] + count * need["per image"] <= (1 + above) * peak, count


def test_states():
    cfg = benchmark_helpers.measured(benchmark_helpers.C5)
    model = build_model(cfg)
    trained = sum(4 * p.numel() for p in model.parameters() if p.requires_grad)
    need = memory_need(cfg, batches=(2, 4))
    assert need["gradients"] == need["optimizer"] == trained  # LARS has a momentum
    assert need["parameters"] > trained and need["target"] < need["parameters"]
    everything = sum(x.nbytes for x in (*model.parameters(), *model.buffers()))
    assert need["parameters"] + need["target"] == everything


def test_precision_and_recomputation_save_memory():
    need, float32, recomputed = (
        memory_need(benchmark_helpers.measured(benchmark_helpers.C5, *opts), batches=(2, 4))
        for opts in (HALF, ("SOLVER.AMP.ENABLED", False), (*HALF, "MODEL.PIXPRO.RECOMPUTE", True))
    )
    assert need["kept per image"] < 0.7 * float32["kept per image"]
    # The largest stage is made again in the backward pass, so that the peak is above what is kept.
    assert recomputed["kept per image"] < 0.5 * need["kept per image"]
    assert recomputed["kept per image"] < recomputed["per image"] < need["per image"]


def test_largest_batch():
    need = {"parameters": GIB // 2, "gradients": GIB // 2, "per image": GIB // 2, "kept per image": GIB // 4}
    assert largest_batch(need, 24 * GIB) == 38  # (24 - 2 - 1) / (1.1 * 0.5) = 38.2
    assert largest_batch(need, 2 * GIB) == 0


def test_peak_of_the_process():
    assert peak_memory(torch.device("cpu")) > 100 * 2**20  # PyTorch alone is more
