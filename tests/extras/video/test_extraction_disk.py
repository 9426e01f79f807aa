"""Extracting flow to a disk that is too small, gets full or cannot be written, and interrupts on the way."""

import json
import os
import shutil

import pytest
from flow_helpers import Differences, write_plain_frames, write_two_videos

from pixpro_d2.extras.video import extraction
from pixpro_d2.extras.video.extraction import extract
from pixpro_d2.flow_files import native as native_files
from pixpro_d2.utils.errors import UsageError


@pytest.fixture
def videos(tmp_path):
    return write_two_videos(tmp_path / "videos")


def test_too_small_a_disk_is_told_before(videos, tmp_path, monkeypatch):
    # 4 + 2 steps of 2 directions, 2 channels of 2 x 3 pixels of 2 bytes.
    needed = (4 + 2) * 2 * 2 * 2 * 3 * 2
    usage = shutil.disk_usage(tmp_path)
    estimator = Differences()
    monkeypatch.setattr(extraction.shutil, "disk_usage", lambda path: usage._replace(free=needed - 1))
    with pytest.raises(UsageError, match=r"flow of 2 videos takes 2\.88e-07 GB, but .*flow has"):
        extract(videos, tmp_path / "flow", estimator)
    assert estimator.batches == [] and os.listdir(tmp_path / "flow") == []
    monkeypatch.setattr(extraction.shutil, "disk_usage", lambda path: usage._replace(free=needed))
    assert extract(videos, tmp_path / "flow", estimator).written == 2
    monkeypatch.setattr(extraction.shutil, "disk_usage", lambda path: usage._replace(free=0))
    assert extract(videos, tmp_path / "flow", estimator).kept == 2  # nothing is needed for what is there


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
