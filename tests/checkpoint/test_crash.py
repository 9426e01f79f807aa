"""Processes that are killed, or find the disk full, while they save."""

import os
import random
import time
import zipfile

import pytest
from checkpoint_helpers import resume, save, save_in_too_little_room, save_until_killed
from forked import forkserver

from pixpro_d2.utils.errors import UsageError

SIZE = 500_000  # values of 4 bytes, twice: most of the time is spent in writing


def files(folder):
    return sorted(os.listdir(folder))


@pytest.mark.parametrize("name", ["", "model_final"], ids=["numbered", "overwritten"])
def test_killed_at_any_moment(tmp_path, name):
    """15 times: what last_checkpoint names is whole and resumed from, and no save that was complete is lost."""
    rng, context, cut_off = random.Random(name), forkserver(), 0
    for _ in range(15):
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=save_until_killed, args=(str(tmp_path), name, SIZE, theirs))
        process.start()
        theirs.close()
        assert ours.poll(60)
        time.sleep(rng.uniform(0, 0.1))
        process.kill()
        process.join()
        complete = -1
        while ours.poll():
            try:
                complete = ours.recv()
            except EOFError:
                break
        assert complete >= 0
        cut_off += any(file.endswith(".pth.tmp") for file in files(tmp_path))
        last = (tmp_path / "last_checkpoint").read_text()
        assert zipfile.ZipFile(tmp_path / last).testzip() is None
        assert resume(tmp_path, SIZE) >= complete
        assert name or last == f"model_{resume(tmp_path, SIZE):07d}.pth"
    assert cut_off > 0  # otherwise none was killed while it wrote
    save(tmp_path, 10**6)
    assert not any(file.endswith(".pth.tmp") for file in files(tmp_path))


def test_no_room_for_a_checkpoint(tmp_path):
    """PyTorch then says `unexpected pos 1026688 vs 1026634`."""
    ours, theirs = forkserver().Pipe(duplex=False)
    process = forkserver().Process(target=save_in_too_little_room, args=(str(tmp_path), SIZE, theirs))
    process.start()
    theirs.close()
    assert ours.poll(60)
    message = ours.recv()
    process.join()
    assert message.startswith(f"Checkpoint {tmp_path}/model_0000001.pth could not be saved (File too large, with ")
    assert "the checkpoint before it, model_0000000.pth, is whole" in message
    assert message.endswith("start again with --resume.")
    assert files(tmp_path) == ["last_checkpoint", "model_0000000.pth"] and resume(tmp_path, SIZE) == 0


@pytest.mark.parametrize("full", ["model_0000001.pth", "last_checkpoint"])
def test_full_disk(tmp_path, full):
    save(tmp_path, 0, size=3_000_000)
    (tmp_path / f"{full}.tmp").symlink_to("/dev/full")
    with pytest.raises(UsageError) as error:
        save(tmp_path, 1, size=3_000_000)
    message = str(error.value)
    assert "model_0000001.pth could not be saved (No space left on device, with " in message
    assert "0.02 GB needed)" in message and "make room for 0.02 GB there" in message  # 2 * 3 million * 4 bytes
    assert "model_0000000.pth, is whole" in message
    assert not any(file.endswith(".tmp") for file in files(tmp_path))
    assert (tmp_path / "last_checkpoint").read_text() == "model_0000000.pth" and resume(tmp_path, 3_000_000) == 0


def test_full_disk_at_the_first_checkpoint(tmp_path):
    (tmp_path / "model_0000001.pth.tmp").symlink_to("/dev/full")
    with pytest.raises(UsageError, match="there is none before it"):
        save(tmp_path, 1)
    assert files(tmp_path) == []


def test_a_folder_that_has_gone(tmp_path):
    with pytest.raises(UsageError, match=r"gone/model_0000001.pth could not be saved \(No such file or directory\)"):
        save(tmp_path / "gone", 1)
