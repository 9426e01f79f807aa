"""Which checkpoint is resumed from when some cannot be read."""

import logging
import random
import re
import shutil
import struct

import pytest
import torch
from checkpoint_helpers import model_at, resume, resume_together, save
from forked import forkserver

from pixpro_d2.checkpoint import PixProCheckpointer
from pixpro_d2.checkpoint.resume import candidates
from pixpro_d2.utils.errors import UsageError


@pytest.fixture
def warned(caplog):
    """Takes the warnings so far."""
    logger = logging.getLogger("pixpro_d2.checkpoint.resume")
    logger.addHandler(caplog.handler)  # whether or not a run's setup has cut the logger off from the root's

    def take():
        messages = list(dict.fromkeys(record.message for record in caplog.records if record.name == logger.name))
        caplog.clear()
        return messages

    yield take
    logger.removeHandler(caplog.handler)


@pytest.fixture
def pair(tmp_path):
    """A folder with checkpoints of iterations 3 and 7, and the path and contents of the latter."""
    save(tmp_path, 3, 7)
    newest = tmp_path / "model_0000007.pth"
    return tmp_path, newest, newest.read_bytes()


def test_the_last_one_is_taken_in_silence(pair, warned):
    assert resume(pair[0]) == 7 and not warned()


def test_truncated_at_any_place(pair, warned):
    folder, newest, contents = pair
    rng = random.Random(0)
    for size in (rng.randrange(len(contents)) for _ in range(12)):
        newest.write_bytes(contents[:size])
        assert resume(folder) == 3, size
        (message,) = warned()
        assert re.match(rf"{newest} is damaged or cut off \(.+\): resuming from {folder}/", message), size
        assert message.endswith("model_0000003.pth instead.")


def test_a_changed_byte_is_found_or_harmless(pair, warned):
    """PyTorch itself loads changed weights without a word."""
    folder, newest, contents = pair
    rng, taken = random.Random(0), []
    for _ in range(12):
        place = rng.randrange(len(contents))
        changed = bytearray(contents)
        changed[place] ^= 1 << rng.randrange(8)
        newest.write_bytes(changed)
        taken.append(resume(folder))  # which compares the weights
        assert len(warned()) == (taken[-1] == 3)
    assert taken.count(3) > 6


@pytest.mark.parametrize(
    "contents, reason",
    [
        (b"", "is damaged or cut off"),
        (bytes(5000), "is damaged or cut off"),
        (random.Random(1).randbytes(5000), "is damaged or cut off"),
        ({"iteration": 7}, "is no checkpoint of such a run: it has no 'model'"),
        ({"model": {}}, "is no checkpoint of such a run: it has no 'iteration'"),
        ([1], "holds a list"),
        (None, "cannot be read (No such file or directory)"),
    ],
    ids=["empty", "zeros", "random", "no model", "no iteration", "list", "missing"],
)
def test_files_that_are_no_checkpoint(pair, contents, reason, warned):
    folder, newest, _ = pair
    if contents is None:
        newest.unlink()
    elif isinstance(contents, bytes):
        newest.write_bytes(contents)
    else:
        torch.save(contents, newest)
    assert resume(folder) == 3
    (message,) = warned()
    assert str(newest) in message and reason in message and f"resuming from {folder}/model_0000003.pth" in message


def test_zeros_in_the_middle(pair, warned):
    """As a file system may leave a file when power is lost: the tables are whole, PyTorch loads it."""
    folder, newest, contents = pair
    weights = contents.index(struct.pack("f", 7) * 100)
    newest.write_bytes(contents[:weights] + bytes(400) + contents[weights + 400 :])
    assert torch.load(newest, weights_only=True)["model"]["first"][0] == 0
    assert resume(folder) == 3
    assert f"resuming from {folder}/model_0000003.pth" in warned()[0]


def test_several_are_passed_over_one_by_one(tmp_path, warned):
    save(tmp_path, 1, 3, 5, 7)
    for iteration in (5, 7):
        (tmp_path / f"model_000000{iteration}.pth").write_bytes(b"")
    assert resume(tmp_path) == 3
    messages = warned()
    assert ["0000007.pth" in messages[0], "0000005.pth" in messages[1], len(messages)] == [True, True, 2]


@pytest.mark.parametrize("last", [None, "", "model_0000099.pth", "\0\xff\n", "."])
def test_without_a_usable_last_checkpoint(pair, last, warned):
    folder, _, _ = pair
    (folder / "last_checkpoint").unlink()
    if last is not None:
        (folder / "last_checkpoint").write_text(last, encoding="latin1")
    assert resume(folder) == 7
    assert len(warned()) == bool(last)


@pytest.mark.parametrize("files", [("model_0000007.pth",), ()])
def test_never_begins_anew_when_none_can_be_read(tmp_path, files):
    save(tmp_path, 3, 7)
    (tmp_path / "model_0000003.pth").unlink()
    for name in ("model_0000007.pth", "last_checkpoint"):
        (tmp_path / name).write_text("model_0000007.pth")
    if not files:
        (tmp_path / "model_0000007.pth").unlink()
    with pytest.raises(UsageError, match=rf"No checkpoint in {tmp_path} can be resumed from \(.*model_0000007.pth"):
        resume(tmp_path)


def test_a_new_run_has_nothing_to_resume(tmp_path):
    model = model_at(4)
    assert PixProCheckpointer(model, str(tmp_path / "new")).resume() is None
    assert torch.equal(model.first, torch.full((1000,), 4.0))


def put(folder, **iterations):
    """Files of these names without weights, written after these iterations."""
    for name, iteration in iterations.items():
        torch.save({"iteration": iteration}, folder / f"{name}.pth")


@pytest.mark.parametrize(
    "last, final, expected",
    [
        ("model_final", 29, ["final", "0000019", "0000009", "0000004"]),
        (None, 29, ["final", "0000019", "0000009", "0000004"]),
        (None, 14, ["0000019", "final", "0000009", "0000004"]),  # a run that was prolonged after 15
        ("model_0000019", 14, ["0000019", "final", "0000009", "0000004"]),
        ("model_0000009", 29, ["0000009", "0000004", "final", "0000019"]),  # those of an earlier run at the end
        (None, None, ["0000019", "0000009", "0000004", "final"]),
    ],
)
def test_order(tmp_path, last, final, expected):
    put(tmp_path, model_0000019=19, model_0000004=4, model_0000009=9, model_final=final, other=99)
    if last:
        (tmp_path / "last_checkpoint").write_text(f"{last}.pth\n")
    assert candidates(str(tmp_path)) == [f"model_{name}.pth" for name in expected]


def test_no_folder_has_no_candidates(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save(tmp_path, 1)
    assert candidates("") == [] and candidates(str(tmp_path / "none")) == []


@pytest.mark.parametrize(
    "ours, theirs, what",
    [
        ([3, 5], [3, 4], r"0.weight is \[4, 3\] there and \[5, 3\] here"),
        ([3, 4, 2], [3, 4], r"it has no 1.weight"),
        ([3, 4], [3, 4, 2], r"the model has no 1.weight"),
    ],
)
def test_another_model_is_a_mistake_and_not_passed_over(tmp_path, ours, theirs, what):
    def build(widths):
        return torch.nn.Sequential(*(torch.nn.Linear(a, b) for a, b in zip(widths, widths[1:])))

    PixProCheckpointer(build(ours), str(tmp_path)).save("model_0000001", iteration=1)
    PixProCheckpointer(build(theirs), str(tmp_path)).save("model_0000003", iteration=3)
    with pytest.raises(UsageError, match=rf"model_0000003.pth does not fit this config's model \({what}\)"):
        PixProCheckpointer(build(ours), str(tmp_path)).resume()


def test_another_optimizer_is_a_mistake_and_none_is_passed_over(tmp_path, warned):
    model = torch.nn.Linear(2, 2)
    one = torch.optim.SGD(model.parameters(), lr=1)
    two = torch.optim.SGD([{"params": [p]} for p in model.parameters()], lr=1)
    PixProCheckpointer(model, str(tmp_path), optimizer=one).save("model_0000001", iteration=1)
    with pytest.raises(UsageError, match=r"0000001.pth does not fit this config's optimizer \(.*parameter groups"):
        PixProCheckpointer(model, str(tmp_path), optimizer=two).resume()
    PixProCheckpointer(model, str(tmp_path)).save("model_0000003", iteration=3)
    rest = PixProCheckpointer(model, str(tmp_path), optimizer=one).resume()
    assert rest["iteration"] == 1 and "it has no 'optimizer'" in warned()[0]


def test_processes_take_the_same_one(tmp_path):
    """Each with a folder of its own, as machines that share none: one of them lacks or cannot read the newest."""
    cases = ["same", "damaged", "missing", "first without any", "second without any"]
    for name in cases:
        (tmp_path / "0" / name).mkdir(parents=True)
        save(tmp_path / "0" / name, 3, 7)
    shutil.copytree(tmp_path / "0", tmp_path / "1")
    (tmp_path / "1" / "damaged" / "model_0000007.pth").write_bytes(b"half")
    (tmp_path / "1" / "missing" / "model_0000007.pth").unlink()
    shutil.rmtree(tmp_path / "0" / "first without any")
    shutil.rmtree(tmp_path / "1" / "second without any")
    folders = [[str(tmp_path / str(rank) / name) for name in cases] for rank in range(2)]
    context, running = forkserver(), []
    for rank in range(2):
        args = (rank, folders, tmp_path / "meeting", tmp_path / f"{rank}.pt")
        running.append(context.Process(target=resume_together, args=args))
        running[-1].start()
    for process in running:
        process.join(timeout=120)
        if process.exitcode is None:  # waits for the other
            process.kill()
        assert process.exitcode == 0
    for rank in range(2):
        results = torch.load(tmp_path / f"{rank}.pt")
        assert results[:3] == [7, 3, 3]
        for result, culprit in zip(results[3:], (0, 1)):
            assert f"(On process {culprit}: " in result and "No such file" in result and "all machines share" in result
