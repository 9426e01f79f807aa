"""Extracting the flow of folders of frames: its order, resuming, and what goes wrong."""

import json
import os
import re
import shutil

import numpy as np
import pytest
from data_helpers import logged
from flow_helpers import Differences, write_plain_frames
from PIL import Image

from pixpro_d2.errors import UsageError
from pixpro_d2.flow import FlowFiles, extraction, native_files
from pixpro_d2.flow.extraction import extract

VALUES = (0, 1, 4, 9, 16)  # of the frames: neighbours differ by 1, 3, 5, 7


@pytest.fixture
def videos(tmp_path):
    """Folder of two videos, of 5 and 3 frames of 16 x 24 pixels, whose flow has 2 x 3."""
    write_plain_frames(tmp_path / "videos/a", VALUES)
    write_plain_frames(tmp_path / "videos/b", (10, 20, 40))
    return tmp_path / "videos"


@pytest.mark.parametrize("batch", [1, 3, 4, 100])
def test_order_and_direction(videos, tmp_path, batch):
    estimator = Differences()
    report = extract(videos, tmp_path / "flow", estimator, batch)
    assert report == (2, 0, [])
    assert max(estimator.batches) == min(batch, 4)
    forward, backward = (np.load(tmp_path / f"flow/a/{name}.npy") for name in ("forward", "backward"))
    assert forward.shape == backward.shape == (4, 2, 2, 3)
    np.testing.assert_array_equal(forward[:, 0, 1, 2], [1, 3, 5, 7])  # 0 -> 1, 1 -> 2, ...
    np.testing.assert_array_equal(forward[:, 1, 0, 0], [0, 1, 4, 9])  # the frame that each starts from
    np.testing.assert_array_equal(backward[:, 0, 0, 0], [-1, -3, -5, -7])  # 1 -> 0, 2 -> 1, ...
    np.testing.assert_array_equal(backward[:, 1, 1, 1], [1, 4, 9, 16])
    there, back = FlowFiles(tmp_path / "flow").read("b", 0, 2)
    np.testing.assert_array_equal(there[:, 0, 0, 0], [10, 20])
    np.testing.assert_array_equal(back[:, 0, 0, 0], [-20, -10])  # 40 -> 20 -> 10
    FlowFiles(tmp_path / "flow").check("b", 3, (16, 24))


def test_the_manifest_lists_all(videos, tmp_path):
    extract(videos, tmp_path / "flow", Differences())
    manifest = json.loads((tmp_path / "flow/manifest.json").read_text())
    frames = {
        name: (item["frames"], item["frame_size"], item["estimator"]) for name, item in manifest["videos"].items()
    }
    assert frames == {"a": (5, [16, 24], "differences"), "b": (3, [16, 24], "differences")}
    assert sorted(os.listdir(tmp_path / "flow")) == ["a", "b", "manifest.json"]


def _change_frames(videos, out, estimator):
    write_plain_frames(videos / "a", (*VALUES, 25))


def _change_size(videos, out, estimator):
    shutil.rmtree(videos / "a")
    write_plain_frames(videos / "a", VALUES, (24, 24))


def _cut_off(videos, out, estimator):
    path = out / "a/backward.npy"
    path.write_bytes(path.read_bytes()[:-1])


def _lose_description(videos, out, estimator):
    os.remove(out / "a/flow.json")


def test_finished_videos_are_kept(videos, tmp_path):
    extract(videos, tmp_path / "flow", Differences())
    estimator = Differences()
    assert extract(videos, tmp_path / "flow", estimator) == (0, 2, [])
    assert estimator.batches == []


@pytest.mark.parametrize("change", [_change_frames, _change_size, _cut_off, _lose_description])
def test_what_does_not_match_is_made_anew(videos, tmp_path, change):
    out = tmp_path / "flow"
    extract(videos, out, Differences())
    change(videos, out, Differences())
    assert extract(videos, out, Differences()) == (1, 1, [])
    files = FlowFiles(out)
    files.check("a", len(os.listdir(videos / "a")), Image.open(videos / "a/00000.png").size[::-1])
    assert extract(videos, out, Differences()) == (0, 2, [])


@pytest.mark.parametrize(("attribute", "value"), [("name", "others"), ("scale", 4)])
def test_flow_of_another_estimator_is_made_anew(videos, tmp_path, attribute, value):
    extract(videos, tmp_path / "flow", Differences())
    estimator = Differences()
    setattr(estimator, attribute, value)
    assert extract(videos, tmp_path / "flow", estimator) == (2, 0, [])


def _break_frame(folder):
    path = folder / "00003.png"
    path.write_bytes(path.read_bytes()[:50])
    return "00003.png"


def _break_first_frame(folder):
    (folder / "00000.png").write_text("no image")
    return "00000.png"


def _mix_sizes(folder):
    Image.new("RGB", (24, 20)).save(folder / "00004.png")
    return r"00004\.png: 20 x 24 .*first frame of the video has 16 x 24"


def _leave_one(folder):
    for path in sorted(folder.iterdir())[1:]:
        path.unlink()
    return "a single frame"


@pytest.mark.parametrize("damage", [_break_frame, _break_first_frame, _mix_sizes, _leave_one])
def test_a_bad_video_is_named_and_skipped(videos, tmp_path, damage):
    named = damage(videos / "a")
    with logged("pixpro_d2.flow") as messages:
        report = extract(videos, tmp_path / "flow", Differences(), batch=2)
    assert (report.written, report.kept, len(report.skipped)) == (1, 0, 1)
    assert re.search(f"videos/a.*{named}", report.skipped[0])
    assert any(report.skipped[0] in message for message in messages)
    assert sorted(os.listdir(tmp_path / "flow")) == ["b", "manifest.json"]


def test_frames_that_are_stored_turned(videos, tmp_path):
    # Upright by their EXIF orientation they are 24 x 16. Taken as they are stored, none would have the size expected.
    for path in (videos / "b").iterdir():
        image = Image.open(path).copy()
        exif = image.getexif()
        exif[0x0112] = 6
        image.save(path, exif=exif)
    assert extract(videos, tmp_path / "flow", Differences()) == (2, 0, [])
    FlowFiles(tmp_path / "flow").check("b", 3, (24, 16))
    assert extract(videos, tmp_path / "flow", Differences()) == (0, 2, [])


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
    with pytest.raises(UsageError, match="disk of .*flow is full.*keeps the 1 finished"):
        extract(videos, out, Differences())
    assert os.listdir(out) == ["a"]
    monkeypatch.undo()
    assert extract(videos, out, Differences()) == (1, 1, [])


def test_an_interrupt_leaves_whole_videos(videos, tmp_path):
    class Interrupted(Differences):
        def __call__(self, first, second):
            if len(self.batches) == 9:  # a takes 8 calls, one pair at a time
                raise KeyboardInterrupt
            return super().__call__(first, second)

    with pytest.raises(KeyboardInterrupt):
        extract(videos, tmp_path / "flow", Interrupted(), batch=1)
    assert os.listdir(tmp_path / "flow") == ["a"]


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
