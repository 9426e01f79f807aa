"""Extracting the flow of folders of frames: its order, resuming, and what goes wrong."""

import json
import os
import re
import shutil
import struct
import zlib

import numpy as np
import pytest
import torch
from data_helpers import logged, make_cfg
from flow_helpers import VALUES, Differences, write_plain_frames, write_two_videos
from PIL import Image
from tqdm import tqdm

from pixpro_d2.data.pretrain.video_mapper import VideoMapper
from pixpro_d2.extras.video import extraction
from pixpro_d2.extras.video.extraction import extract
from pixpro_d2.flow_files import FlowFiles, write_flow
from pixpro_d2.utils.errors import UsageError


@pytest.fixture
def videos(tmp_path):
    return write_two_videos(tmp_path / "videos")


@pytest.mark.parametrize("batch", [1, 3, 4, 100])
def test_order_and_direction(videos, tmp_path, batch):
    estimator = Differences()
    report = extract(videos, tmp_path / "flow", estimator, batch)
    assert report == (2, 0, {})
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
    assert extract(videos, tmp_path / "flow", estimator) == (0, 2, {})
    assert estimator.batches == []


@pytest.mark.parametrize("change", [_change_frames, _change_size, _cut_off, _lose_description])
def test_what_does_not_match_is_made_anew(videos, tmp_path, change):
    out = tmp_path / "flow"
    extract(videos, out, Differences())
    change(videos, out, Differences())
    assert extract(videos, out, Differences()) == (1, 1, {})
    files = FlowFiles(out)
    files.check("a", len(os.listdir(videos / "a")), Image.open(videos / "a/00000.png").size[::-1])
    assert extract(videos, out, Differences()) == (0, 2, {})


@pytest.mark.parametrize(
    ("attribute", "value", "named"),
    [
        ("name", "others", "differences at 1/8 of the resolution, not by others at 1/8"),
        ("scale", 4, "differences at 1/8 of the resolution, not by differences at 1/4"),
    ],
)
def test_flow_of_another_estimator_is_not_replaced_unasked(videos, tmp_path, attribute, value, named):
    out = tmp_path / "flow"
    extract(videos, out, Differences())
    shutil.rmtree(out / "a")
    estimator = Differences()
    setattr(estimator, attribute, value)
    with pytest.raises(UsageError, match=f"flow/b has flow by {named}: choose another folder, .*--overwrite"):
        extract(videos, out, estimator)
    assert estimator.batches == [] and not (out / "a").exists()
    assert extract(videos, out, estimator, overwrite=True) == (2, 0, {})
    assert extract(videos, out, estimator, overwrite=True) == (0, 2, {})  # goes on where it was broken off
    assert extract(videos, out, estimator) == (0, 2, {})


def test_flow_of_other_frames_is_made_anew(videos, tmp_path):
    out = tmp_path / "flow"
    extract(videos, out, Differences())
    write_plain_frames(videos / "b", (10, 20, 41))  # as many, of the same size
    assert extract(videos, out, Differences()) == (1, 1, {})
    assert FlowFiles(out).read("b", 1, 1)[0][0, 0, 0, 0] == 21
    content = json.loads((out / "b/flow.json").read_text())
    (out / "b/flow.json").write_text(json.dumps(content | {"fingerprint": None}))  # as of rendered video
    assert extract(videos, out, Differences()) == (0, 2, {})


def test_flow_of_another_folder_is_not_replaced_unasked(videos, tmp_path):
    out, others = tmp_path / "flow", tmp_path / "others"
    write_plain_frames(others / "b", (10, 8, 6))
    extract(videos, out, Differences())
    estimator = Differences()
    message = f"flow/b has flow of the frames in {videos}/b, not of those in {others}/b: choose another folder for the"
    with pytest.raises(UsageError, match=message):
        extract(others, out, estimator)
    assert estimator.batches == []
    np.testing.assert_array_equal(FlowFiles(out).read("b", 0, 2)[0][:, 0, 0, 0], [10, 20])
    assert extract(others, out, Differences(), overwrite=True) == (1, 0, {})
    np.testing.assert_array_equal(FlowFiles(out).read("b", 0, 2)[0][:, 0, 0, 0], [-2, -2])
    # Now b is of the other folder, whose frames may change.
    write_plain_frames(others / "b", (10, 9, 8, 7))
    assert extract(others, out, Differences()) == (1, 0, {})
    assert FlowFiles(out).read("b", 2, 1)[0][0, 0, 0, 0] == -1


def test_a_folder_that_has_moved_keeps_its_flow(videos, tmp_path):
    out, moved = tmp_path / "flow", tmp_path / "moved"
    extract(videos, out, Differences())
    videos.rename(moved)
    videos.symlink_to(moved)
    assert extract(moved, out, Differences()) == extract(videos, out, Differences()) == (0, 2, {})
    write_plain_frames(moved / "a", (*VALUES, 25))  # nothing tells it from another video
    with pytest.raises(UsageError, match=f"flow/a has flow of the frames in {videos}/a, not of those in {moved}/a: "):
        extract(moved, out, Differences())


def test_a_link_to_the_folder_is_the_folder(videos, tmp_path):
    (tmp_path / "link").symlink_to(videos)
    extract(tmp_path / "link", tmp_path / "flow", Differences())
    write_plain_frames(videos / "a", (*VALUES, 25))
    assert extract(videos, tmp_path / "flow", Differences()) == (1, 1, {})


@pytest.mark.parametrize("fingerprint", ["00000000", None])
def test_flow_of_frames_in_an_unknown_folder(videos, tmp_path, fingerprint):
    out = tmp_path / "flow"
    write_flow(out, "b", *np.zeros((2, 1, 2, 2, 3), np.float16), (16, 24), "differences", fingerprint)  # of 2 frames
    if fingerprint:
        with pytest.raises(UsageError, match=f"flow/b has flow of other frames, not of those in {videos}/b: choose"):
            extract(videos, out, Differences())
        assert FlowFiles(out).videos == {"b"} and not FlowFiles(out).read("b", 0, 1)[0].any()
        assert extract(videos, out, Differences(), overwrite=True) == (2, 0, {})
    assert extract(videos, out, Differences()) == ((0, 2, {}) if fingerprint else (2, 0, {}))


class _Frames(Differences):
    """Keeps the frames from which flow is estimated."""

    def __init__(self):
        super().__init__()
        self.frames = []

    def __call__(self, first, second):
        self.frames.append(torch.cat((first, second[-1:])))
        return super().__call__(first, second)


# 2048 * 255 / 4095 = 127.5, 1365 * 255 / 4095 = 85; without a range 4095 / 257 = 15.9, 2048 / 257 = 7.97.
@pytest.mark.parametrize(("pixel_range", "values"), [((0, 4095), [0, 255, 127, 85]), ((), [0, 15, 7, 5])])
def test_frames_of_12_bits_are_those_of_training(tmp_path, pixel_range, values):
    folder = tmp_path / "videos/a"
    folder.mkdir(parents=True)
    for i in range(2):
        rows = np.array([0, 4095, 2048, 1365], np.uint16).repeat(4)
        Image.fromarray(np.roll(rows, 8 * i)[:, None].repeat(24, 1)).save(folder / f"{i}.png")
    estimator = _Frames()
    assert extract(tmp_path / "videos", tmp_path / "flow", estimator, pixel_range=pixel_range) == (1, 0, {})
    there, _ = estimator.frames  # the frames from the first to the last, and in reverse
    assert there.shape == (2, 3, 16, 24) and there[0, 0, ::4, 0].tolist() == values
    cfg = make_cfg(INPUT__PIXEL_RANGE=list(pixel_range))
    video = {"file_name": str(folder), "video": "a", "num_frames": 2}
    trained = VideoMapper(cfg, num_frames=2, give_frames=True)(video)["frames"]
    np.testing.assert_array_equal(there, trained)


def test_a_pixel_range_does_not_matter_for_frames_of_8_bits(videos, tmp_path):
    assert extract(videos, tmp_path / "flow", Differences(), pixel_range=(0, 100)) == (2, 0, {})
    assert FlowFiles(tmp_path / "flow").read("b", 1, 1)[0][0, 0, 0, 0] == 20
    assert extract(videos, tmp_path / "flow", Differences()) == (0, 2, {})


def test_flow_that_was_being_replaced_is_kept(videos, tmp_path):
    out = tmp_path / "flow"
    extract(videos, out, Differences())
    os.rename(out / "a", out / ".a.stale")  # here the process was killed
    assert extract(videos, out, Differences()) == (0, 2, {})
    assert sorted(os.listdir(out)) == ["a", "b", "manifest.json"]


def test_parts_make_up_the_whole(videos, tmp_path):
    write_plain_frames(videos / "c", (1, 2))
    _leave_one(videos / "a")
    out = tmp_path / "flow"
    assert extract(videos, out, Differences(), part=(2, 2)) == (1, 0, {})
    assert sorted(os.listdir(out)) == ["b", "manifest.json"]
    assert list(extract(videos, out, Differences(), part=(1, 2)).skipped) == ["a"]
    manifest = json.loads((out / "manifest.json").read_text())
    assert list(manifest["videos"]) == ["b", "c"] and list(manifest["skipped"]) == ["a"]
    assert extract(videos, out, Differences(), part=(2, 2)) == (0, 1, {})
    assert list(FlowFiles(out).skipped) == ["a"]  # which is of the other part
    assert extract(videos, out, Differences(), part=(4, 4)) == (0, 0, {})  # there are three


def _break_frame(folder):
    path = folder / "00003.png"
    path.write_bytes(path.read_bytes()[:50])
    return "00003.png"


def _break_first_frame(folder):
    (folder / "00000.png").write_text("no image")
    return "00000.png"


def _break_a_chunk_of_the_first_frame(folder):
    """Pillow raises a SyntaxError when it looks for the orientation."""
    path = folder / "00000.png"
    start, pixels = path.read_bytes().split(b"IDAT", 1)
    path.write_bytes(
        start[:-4]
        + b"\0\0\0\4IDAT"
        + pixels[:4]
        + struct.pack(">I", zlib.crc32(b"IDAT" + pixels[:4]))
        + b"\0\0\0\4\1\2\3\4"
    )
    return "00000.png"


def _mix_sizes(folder):
    Image.new("RGB", (24, 20)).save(folder / "00004.png")
    return r"00004\.png: 20 x 24 .*first frame of the video has 16 x 24"


def _leave_one(folder):
    for path in sorted(folder.iterdir())[1:]:
        path.unlink()
    return "a single frame"


@pytest.mark.parametrize(
    "damage", [_break_frame, _break_first_frame, _break_a_chunk_of_the_first_frame, _mix_sizes, _leave_one]
)
def test_a_bad_video_is_named_and_skipped(videos, tmp_path, damage):
    named = damage(videos / "a")
    with logged("pixpro_d2.extras.video") as messages:
        report = extract(videos, tmp_path / "flow", Differences(), batch=2)
    assert (report.written, report.kept, len(report.skipped)) == (1, 0, 1)
    assert re.search(f"videos/a.*{named}", report.skipped["a"])
    assert any(report.skipped["a"] in message for message in messages)
    assert sorted(os.listdir(tmp_path / "flow")) == ["b", "manifest.json"]
    assert FlowFiles(tmp_path / "flow").skipped == report.skipped
    write_plain_frames(videos / "a", VALUES)
    assert extract(videos, tmp_path / "flow", Differences()) == (1, 1, {})
    assert FlowFiles(tmp_path / "flow").skipped == {}


class _During(Differences):
    """Calls ``act`` when the second pair of frames is asked for."""

    def __init__(self, act):
        super().__init__()
        self.act = act

    def __call__(self, first, second):
        if len(self.batches) == 2:  # there and back
            self.act()
        return super().__call__(first, second)


def test_videos_that_vanish_or_change_are_skipped(videos, tmp_path, monkeypatch):
    def act():
        shutil.rmtree(videos / "a")  # which is at work
        shutil.rmtree(videos / "b")
        (videos / "c/00000.png").unlink()

    for name in "cd":
        write_plain_frames(videos / name, (1, 2, 3))
    report = extract(videos, tmp_path / "flow", _During(act), batch=1)
    assert (report.written, report.kept) == (1, 0)
    assert [report.skipped[name].removeprefix(f"{videos}/") for name in "bc"] == [
        "b: No such file or directory",
        "c: 2 frames, but 3 a moment ago",
    ]
    assert report.skipped["a"].startswith(f"{videos}/a/00003.png")  # 2 was read already
    # Gone between the listing of the videos and the look at their frames.
    load = extraction.load_videos
    monkeypatch.setattr(extraction, "load_videos", lambda *args: load(*args) + [{"file_name": "x", "video": "x"}])
    assert extract(videos, tmp_path / "flow", Differences()).skipped["x"] == "x: No such file or directory"


@pytest.mark.parametrize("damage", [None, _break_frame])
def test_the_progress_comes_to_its_end(videos, tmp_path, monkeypatch, damage):
    bars = []
    monkeypatch.setattr(extraction, "tqdm", lambda *args, **options: bars.append(tqdm(*args, **options)) or bars[-1])
    if damage:
        damage(videos / "a")
    extract(videos, tmp_path / "flow", Differences(), batch=1)
    assert [(bar.n, bar.total) for bar in bars] == [(2, 2), (4 + 2, 4 + 2)]


def test_frames_that_are_stored_turned(videos, tmp_path):
    # Upright by their EXIF orientation they are 24 x 16. Taken as they are stored, none would have the size expected.
    for path in (videos / "b").iterdir():
        image = Image.open(path).copy()
        exif = image.getexif()
        exif[0x0112] = 6
        image.save(path, exif=exif)
    assert extract(videos, tmp_path / "flow", Differences()) == (2, 0, {})
    FlowFiles(tmp_path / "flow").check("b", 3, (24, 16))
    assert extract(videos, tmp_path / "flow", Differences()) == (0, 2, {})
