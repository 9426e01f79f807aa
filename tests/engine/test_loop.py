"""The training step: same numbers as detectron2's own loop, losses read in batches, bad steps left out."""

import itertools
import statistics

import pytest
import torch
from detectron2.engine import SimpleTrainer
from detectron2.utils.events import EventStorage
from torch import nn

from pixpro_d2.data.pretrain.photometric import Recipe
from pixpro_d2.data.pretrain.recipe_batch import collate_recipes
from pixpro_d2.engine import loop as loop_module
from pixpro_d2.engine.loop import TrainLoop, split_batch
from pixpro_d2.utils.errors import UsageError


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(4, 1)

    def forward(self, x):
        y = self.layer(x)
        return {"loss_a": y.pow(2).mean(), "loss_b": 0.1 * y.abs().mean()}


def batches(count=1000):
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(8, 4, generator=generator) for _ in range(count)]


def run(trainer, steps):
    with EventStorage() as storage:
        for i in range(steps):
            trainer.iter = storage.iter = i
            trainer.run_step()
    return storage


def make(cls, data, **kwargs):
    model = Model()
    return cls(model, data, torch.optim.SGD(model.parameters(), lr=0.1), **kwargs)


def test_same_weights_as_detectron2s_loop():
    ours, theirs = make(TrainLoop, batches(5)), make(SimpleTrainer, batches(5))
    run(ours, 5), run(theirs, 5)
    assert torch.equal(ours.model.layer.weight, theirs.model.layer.weight)


def test_records_the_mean_since_the_last_reading():
    every = run(make(TrainLoop, batches(6)), 6)
    thirds = run(make(TrainLoop, batches(6), read_at=lambda i: (i + 1) % 3 == 0), 6)
    for name in ("loss_a", "loss_b", "total_loss"):
        expected = [value for value, _ in every.history(name).values()]
        got = thirds.history(name).values()
        assert [i for _, i in got] == [2, 5]
        assert [v for v, _ in got] == pytest.approx([sum(expected[:3]) / 3, sum(expected[3:]) / 3])


def test_the_times_are_means_since_the_last_reading(monkeypatch):
    """A loader that delivers three batches at once: one step of three waits for 6 s, and each computes for 1 s."""
    clock = [0.0]
    monkeypatch.setattr(loop_module.time, "perf_counter", lambda: clock[0])

    class Slow(Model):
        def forward(self, x):
            clock[0] += 1
            return super().forward(x)

    def bursts():
        for i, batch in enumerate(batches(6)):
            clock[0] += 6 * (i % 3 == 0)
            yield batch

    model = Slow()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    storage = run(TrainLoop(model, bursts(), optimizer, read_at=lambda i: i % 3 == 2), 6)
    assert storage.history("step_time").values() == [(3, 2), (3, 5)]
    assert storage.history("data_time").values() == [(2, 2), (2, 5)]


def with_nan(data, *places):
    for i in places:
        data[i][0, 0] = float("nan")
    return data


def test_bad_steps_are_left_out_and_told_of(caplog):
    data = batches(6)
    expected = make(TrainLoop, [batch for i, batch in enumerate(data) if i not in (1, 4)])
    losses = [value for value, _ in run(expected, 4).history("loss_a").values()]
    loop = make(TrainLoop, with_nan([x.clone() for x in data], 1, 4), read_at=lambda i: i == 5, max_skipped=2)
    storage = run(loop, 6)
    assert torch.equal(loop.model.layer.weight, expected.model.layer.weight)
    assert storage.history("loss_a").latest() == pytest.approx(sum(losses) / 4)  # of the finite ones alone
    assert "2 of the 6 steps from iteration 0 to 5 were skipped" in caplog.text
    assert storage.history("skipped_steps").latest() == 2


@pytest.mark.parametrize("read_at", [lambda i: True, lambda i: i in (2, 5)], ids=["each", "thirds"])
def test_too_many_in_a_row_stop_the_run_and_save_the_batch(tmp_path, read_at):
    data = with_nan(batches(6), 3, 4, 5)
    loop = make(TrainLoop, data, read_at=read_at, max_skipped=3, folder=str(tmp_path))
    with pytest.raises(FloatingPointError, match=r"3 steps in a row, up to iteration 5, .*\(loss_a, loss_b\)"):
        run(loop, 6)
    saved = torch.load(tmp_path / "bad_batch_0000005_0.pth", weights_only=True)
    assert torch.equal(saved, data[5]) is False and torch.equal(saved.nan_to_num(), data[5].nan_to_num())


class Normed(Model):
    """With a norm, whose running statistics each batch moves."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(4)

    def forward(self, x):
        return super().forward(self.norm(x))


@pytest.mark.parametrize("bad", [0, 2])
def test_the_statistics_of_norms_survive_a_bad_batch(bad):
    """Those of the last reading are taken again; before a run's first batch that is what it began with."""
    data = with_nan(batches(4), bad)
    model = Normed()
    loop = TrainLoop(model, data, torch.optim.SGD(model.parameters(), lr=0.1), max_skipped=9)
    model.norm.running_mean = torch.full((4,), 0.5)  # what a resumed run loads, after its loop was built
    run(loop, 4)
    expected, moved = torch.full((4,), 0.5), [x for i, x in enumerate(data) if i != bad]
    for x in moved:
        expected = 0.9 * expected + 0.1 * x.mean(0)
    torch.testing.assert_close(model.norm.running_mean, expected)


def test_a_bad_batch_that_cannot_be_saved_does_not_hide_the_fault(tmp_path):
    loop = make(TrainLoop, with_nan(batches(2), 0), folder=str(tmp_path / "gone"))
    with pytest.raises(FloatingPointError, match="could not be saved as .*bad_batch_0000000_0.pth .*No such file"):
        run(loop, 1)


def test_the_number_of_steps_left_out_goes_on_after_a_resume(caplog):
    first, second = (make(TrainLoop, with_nan(batches(4), 0, 1), max_skipped=9) for _ in range(2))
    run(first, 3)
    second.load_state_dict(first.state_dict())
    caplog.clear()
    storage = run(second, 1)
    assert (
        int(second.guard.skipped) == 3 == storage.history("skipped_steps").latest()
        and "1 of the 1 steps" in caplog.text
    )


def test_a_request_to_stop_is_heard_where_losses_are_read():
    asked = []
    loop = make(TrainLoop, batches(4), read_at=lambda i: i % 2 == 1, asked_to_stop=lambda: bool(asked))
    with EventStorage() as storage:
        heard = []
        for i in range(4):
            loop.iter = storage.iter = i
            loop.run_step()
            heard.append((loop.has_read, loop.must_stop))
            if i == 1:
                asked.append(True)
    assert heard == [(False, False), (True, False), (False, False), (True, True)]


def test_state_continues_the_run():
    def with_momentum():
        model = Model()
        return TrainLoop(model, batches(6), torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9))

    first, second = with_momentum(), with_momentum()
    run(first, 3)
    second.load_state_dict(first.state_dict())
    (buffer,) = [s["momentum_buffer"] for p, s in second.optimizer.state.items() if p.shape == (1, 4)]
    (expected,) = [s["momentum_buffer"] for p, s in first.optimizer.state.items() if p.shape == (1, 4)]
    assert torch.equal(buffer, expected) and second.iter == 2


def test_the_state_of_another_optimiser_is_refused():
    first, second = Model(), Model()
    sgd = TrainLoop(first, batches(2), torch.optim.SGD(first.parameters(), lr=0.1, momentum=0.9))
    adam = TrainLoop(second, batches(2), torch.optim.AdamW(second.parameters(), lr=0.1))
    for loop, other in ((sgd, adam), (adam, sgd)):
        with pytest.raises(UsageError, match="written with another SOLVER.OPTIMIZER: resume with the same optimiser"):
            loop.load_state_dict(other.state_dict())


def test_bfloat16_autocast_reaches_the_model():
    seen = []

    class Probe(Model):
        def forward(self, x):
            seen.append(self.layer(x).dtype)
            return super().forward(x)

    model = Probe()
    loop = TrainLoop(model, itertools.repeat(batches(1)[0]), torch.optim.SGD(model.parameters(), 0.1), torch.bfloat16)
    run(loop, 1)
    assert seen == [torch.bfloat16] and model.layer.weight.dtype == torch.float32


@pytest.mark.parametrize("parts", [2, 4])
def test_accumulated_gradients_are_those_of_the_whole_batch(parts):
    whole, split = make(TrainLoop, batches(5)), make(TrainLoop, batches(5), accumulation_steps=parts)
    storages = run(whole, 5), run(split, 5)
    torch.testing.assert_close(split.model.layer.weight, whole.model.layer.weight)
    expected, got = ([value for value, _ in storage.history("loss_a").values()] for storage in storages)
    assert got == pytest.approx(expected)


def test_a_batch_splits_into_parts_of_all_its_values():
    batch = {"x": torch.arange(4), "names": ["a", "b", "c", "d"]}
    first, second = split_batch(batch, 2)
    assert first["x"].tolist() == [0, 1] and second["names"] == ["c", "d"]
    assert split_batch(["a", "b"], 2) == [["a"], ["b"]]
    pair = [collate_recipes([Recipe(solarize=i == chosen) for i in range(4)]) for chosen in (1, 2)]
    for views in (pair, tuple(pair)):  # pinning made lists of tuples before torch 2.11
        parts = split_batch({"x": torch.arange(4), "recipes": views}, 2)
        assert [[len(view.solarized) for view in part["recipes"]] for part in parts] == [[1, 0], [0, 1]]


def test_a_norm_with_one_value_a_channel_is_one_sentence():
    model = nn.Sequential(nn.Conv2d(3, 4, 8), nn.BatchNorm2d(4))
    loop = TrainLoop(model, [torch.rand(1, 3, 8, 8)], torch.optim.SGD(model.parameters(), lr=0.1))
    with pytest.raises(
        UsageError, match=r"one value for each channel \(torch.Size\(\[1, 4, 1, 1\]\)\): give each process"
    ):
        run(loop, 1)


def test_a_reading_of_many_iterations_is_written_as_it_is():
    """detectron2's writers take the median of 20 readings of a noisy value: of 400 iterations if 20 make a reading."""
    data = batches(12)
    often, rarely = make(TrainLoop, data), make(TrainLoop, data, read_at=lambda i: i % 4 == 3, smooth=False)
    written = [run(loop, 12).latest_with_smoothing_hint(20)["total_loss"][0] for loop in (often, rarely)]
    losses = [float(value) for value, _ in run(make(TrainLoop, data), 12).history("total_loss").values()]
    assert written == pytest.approx([statistics.median(losses), sum(losses[-4:]) / 4])
