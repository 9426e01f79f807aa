"""Extracting flow to a disk that is too small, gets full or cannot be written, and interrupts on the way."""

import json
import os
import shutil

import pytest
from data_helpers import logged
from flow_helpers import Differences, write_plain_frames, write_two_videos

from pixpro_d2.extras.video import extraction
from pixpro_d2.extras.video.extraction import extract
from pixpro_d2.flow_files import native as native_files
from pixpro_d2.utils.errors import UsageError

STEP = 2 * 2 * 2 * 3 * 2  # bytes of 2 directions, 2 channels of 2 x 3 pixels, float16


@pytest.fixture
def videos(tmp_path):
    return write_two_videos(tmp_path / "videos")


@pytest.fixture
def set_free(tmp_path, monkeypatch):
    """Set the number of bytes that are free on the disk."""
    usage = shutil.disk_usage(tmp_path)
    return lambda free: monkeypatch.setattr(extraction.shutil, "disk_usage", lambda path: usage._replace(free=free))


def test_too_small_a_disk_is_told_before(videos, tmp_path, set_free):
    needed = (4 + 2) * STEP
    estimator = Differences()
    set_free(needed - 1)
    with pytest.raises(UsageError, match=r"flow of 2 videos takes 2\.88e-07 GB, but .*flow has"):
        extract(videos, tmp_path / "flow", estimator)
    assert estimator.batches == [] and os.listdir(tmp_path / "flow") == []
    set_free(needed)
    assert extract(videos, tmp_path / "flow", estimator).written == 2
    set_free(0)
    assert extract(videos, tmp_path / "flow", estimator).kept == 2  # nothing is needed for what is there


def test_the_space_of_all_parts_is_needed(videos, tmp_path, set_free):
    write_plain_frames(videos / "c", [5])  # has no steps
    set_free((4 + 2) * STEP - 1)  # a and b are in different parts
    with pytest.raises(UsageError, match=r"^The flow of the videos to do in all 2 parts takes 2\.88e-07 GB, but "):
        extract(videos, tmp_path / "flow", Differences(), part=(1, 2))
    set_free((4 + 2) * STEP)
    with logged("pixpro_d2.extras.video") as messages:
        assert extract(videos, tmp_path / "flow", Differences(), part=(2, 2)).written == 1
    assert messages == ["1 videos to do, 0 are done; needs 2.88e-07 GB for all 2 parts, 2.88e-07 GB are free."]
    set_free(4 * STEP)  # b is there
    assert extract(videos, tmp_path / "flow", Differences(), part=(1, 2)).written == 1


def test_flow_that_is_replaced_needs_the_space_of_one_video(videos, tmp_path, set_free):
    extract(videos, tmp_path / "flow", Differences())
    estimator = Differences()
    estimator.name = "other"
    set_free(4 * STEP - 1)
    with pytest.raises(UsageError, match=r"flow of 2 videos takes 1\.92e-07 GB"):
        extract(videos, tmp_path / "flow", estimator, overwrite=True)
    set_free(4 * STEP)
    assert extract(videos, tmp_path / "flow", estimator, overwrite=True).written == 2


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_a_disk_that_gets_full_is_named_and_the_run_can_go_on(videos, tmp_path, monkeypatch):
    out = tmp_path / "flow"

    def full(path, mode):
        return open("/dev/full" if ".b.partial" in str(path) else path, mode)

    monkeypatch.setattr(native_files, "open", full, raising=False)
    with pytest.raises(UsageError, match="disk of .*flow is full.*keeps the finished"):
        extract(videos, out, Differences())
    assert sorted(os.listdir(out)) == ["a", "manifest.json"]
    monkeypatch.undo()
    assert extract(videos, out, Differences()) == (1, 1, {})


def test_an_interrupt_leaves_whole_videos(videos, tmp_path):
    class Interrupted(Differences):
        def __call__(self, first, second):
            if len(self.batches) == 9:  # a takes 8 calls, one pair at a time
                raise KeyboardInterrupt
            return super().__call__(first, second)

    write_plain_frames(videos / "c", [1])
    with pytest.raises(KeyboardInterrupt):
        extract(videos, tmp_path / "flow", Interrupted(), batch=1)
    assert sorted(os.listdir(tmp_path / "flow")) == ["a", "manifest.json"]
    manifest = json.loads((tmp_path / "flow/manifest.json").read_text())
    assert list(manifest["videos"]) == ["a"] and list(manifest["skipped"]) == ["c"]


@pytest.mark.parametrize(("place", "reason"), [("file", "File exists"), ("file/flow", "Not a directory")])
def test_places_that_cannot_be_written_are_named(videos, tmp_path, place, reason):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=rf"/{place} cannot be read or written \({reason}\): choose another folder"):
        extract(videos, tmp_path / place, Differences())


def test_an_error_without_a_file_name(videos, tmp_path, monkeypatch):
    def fail(*args):
        raise OSError("too many links")

    monkeypatch.setattr(extraction, "stream_flow", fail)
    with pytest.raises(UsageError, match=r"/flow cannot be read or written \(too many links\)"):
        extract(videos, tmp_path / "flow", Differences())


def test_folders_without_videos_and_with_other_files(videos, tmp_path):
    with pytest.raises(UsageError, match="no folder .*nowhere"):
        extract(tmp_path / "nowhere", tmp_path / "flow", Differences())
    with pytest.raises(UsageError, match="no sub-folder of .*videos/a has "):
        extract(videos / "a", tmp_path / "flow", Differences())
    assert not (tmp_path / "flow").exists()
    for name in ("forward", "backward"):
        (tmp_path / "reference" / name).mkdir(parents=True)
    with pytest.raises(UsageError, match="reference holds flow files of another kind"):
        extract(videos, tmp_path / "reference", Differences())
