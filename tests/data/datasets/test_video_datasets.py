"""Folders of folders of frames as a data set: what counts, what is dropped, and the kept numbers of frames."""

import json
import os
import time

import pytest
from data_helpers import logged, write_images
from detectron2.data import DatasetCatalog

from pixpro_d2.data.datasets import video
from pixpro_d2.data.datasets.video import (
    INDEX,
    count_frames,
    drop_short,
    drop_without_flow,
    frame_names,
    list_frames,
    load_videos,
    register_bdd100k_video,
    register_video,
)
from pixpro_d2.utils.errors import UsageError

LOGGER = "pixpro_d2.data.datasets.video"


def _age(root):
    """Make all folders of ``root`` an hour older, so that their numbers may be kept."""
    for folder in root.iterdir():
        stamp = folder.stat().st_mtime - 3600
        os.utime(folder, (stamp, stamp))


@pytest.fixture
def root(tmp_path):
    for name, count in (("b", 3), ("a", 5), ("c", 1)):
        write_images(tmp_path / "videos" / name, count, (4, 6))
    _age(tmp_path / "videos")
    return tmp_path / "videos"


def test_videos(root):
    (root / "a" / "video.json").write_text("{}")
    (root / "a" / "._000.png").write_text("")  # how macOS keeps what it knows of 000.png
    (root / "notes.txt").write_text("")
    (root / "000.png").write_bytes((root / "a" / "000.png").read_bytes())  # beside the videos
    write_images(root / ".a.tmp", 2, (4, 6))
    write_images(root / "a" / "deeper", 2, (4, 6))
    (root / "link").symlink_to(root / "b")
    assert load_videos("x", str(root)) == [
        {"file_name": f"{root}/{name}", "video": name, "num_frames": count}
        for name, count in (("a", 5), ("b", 3), ("c", 1), ("link", 3))
    ]
    assert list_frames(str(root / "b")) == [f"{root}/b/{i:03d}.png" for i in range(3)]


def test_frames_are_in_the_order_of_their_numbers(tmp_path):
    names = [
        "a1.png",
        "a2.png",
        "a10.png",
        "b02x1.png",
        "b2x9.png",
        "b2x10.png",
        "b11x1.png",
        "9.png",
        "10.png",
        "².png",
    ]
    for name in names:
        (tmp_path / name).touch()
    # A name that starts with a number comes before one that starts with text, as in the order of text.
    expected = ["9.png", "10.png", *names[:7], "².png"]
    assert [os.path.basename(path) for path in list_frames(str(tmp_path))] == expected


@pytest.mark.parametrize(
    "names",
    [
        ["c1_0009.png", "c1_0010.png", "c2_0001.png"],  # of one form
        ["1_9.png", "01_8.png", "01_10.png"],  # of several forms: the first numbers are equal
        ["2.PNG", "2.png", "3.PNG"],
    ],
)
def test_the_order_is_that_of_the_numbers_whatever_the_form(tmp_path, names):
    for name in reversed(names):
        (tmp_path / name).touch()
    expected = sorted(names, key=video._natural)
    assert frame_names(str(tmp_path)) == expected


def test_numbers_of_one_length_are_sorted_as_text(tmp_path, monkeypatch):
    for name in ("0010.jpg", "0009.jpg", "0011.jpg"):
        (tmp_path / name).touch()
    monkeypatch.delattr(video, "_natural")  # which takes ten times as long
    assert frame_names(str(tmp_path)) == ["0009.jpg", "0010.jpg", "0011.jpg"]


def test_empty_folders_are_dropped_and_counted(root):
    (root / "empty").mkdir()
    (root / "text").mkdir()
    (root / "text" / "a.txt").write_text("")
    with logged(LOGGER) as messages:
        assert [item["video"] for item in load_videos("x", str(root))] == ["a", "b", "c"]
    assert messages == ["Data set 'x': 2 of 5 folders have no frames."]


def test_no_video(tmp_path):
    with pytest.raises(UsageError, match=f"'x': there is no folder {tmp_path}/none"):
        load_videos("x", str(tmp_path / "none"))
    write_images(tmp_path / "kitti/day/d1/image_02/data", 3, (4, 6))
    write_images(tmp_path / "far/a/b/c/d/e", 1, (4, 6))
    place = tmp_path / "kitti/day/d1/image_02"
    deeper = f"images lie deeper, in {place}/data, so make a folder or a link directly below for each video."
    for name, advice in (
        ("kitti/day/d1/image_02/data", f"it has images itself, so name the folder above it, {place}."),
        ("kitti/day/d1", deeper),
        ("kitti", deeper),
        ("far", "`pixpro-d2 prepare-video` writes such folders."),
    ):
        folder = tmp_path / name
        with pytest.raises(UsageError, match=f"'x': no sub-folder of {folder} has frames of a video: {advice}"):
            load_videos("x", str(folder))


def test_short_videos_are_dropped_and_counted(root):
    videos = load_videos("x", str(root))
    with logged(LOGGER) as messages:
        assert drop_short(videos, 1) == videos
    assert messages == []
    with logged(LOGGER) as messages:
        assert [item["video"] for item in drop_short(videos, 3)] == ["a", "b"]
    assert messages == ["Skipped 1 of 3 videos, shorter than 3 frames."]
    with pytest.raises(UsageError, match="None of 3 videos has 6 frames, the longest has 5: lower N_FRAMES"):
        drop_short(videos, 6)
    with pytest.raises(UsageError, match="DATASETS.TRAIN has x.png, which is no video: .* video:DIR"):
        drop_short([*videos, {"file_name": "x.png", "image_id": 0}], 1)


class _Flow:
    """Stands in for FlowFiles."""

    root = "flow"

    def __init__(self, videos, skipped=()):
        self.videos, self.skipped = set(videos), {name: f"{name}/1.png: damaged" for name in skipped}


def test_videos_that_can_have_no_flow_are_dropped_and_counted(root):
    videos = load_videos("x", str(root))
    with logged(LOGGER) as messages:
        assert drop_without_flow(videos, _Flow("abcd")) == videos
        assert drop_without_flow(videos, _Flow("abc", skipped="de")) == videos  # which are of other data sets
    assert messages == []
    with logged(LOGGER) as messages:
        # Of c there is flow, too, but of frames that have been replaced by damaged ones.
        assert [item["video"] for item in drop_without_flow(videos, _Flow("bc", skipped="ac"))] == ["b"]
    assert messages == ["Skipped 2 of 3 videos, of which no flow could be made, as a/1.png: damaged."]
    with pytest.raises(
        UsageError, match="^Nothing is left without 3 of 3 videos, of which .*, as a/1.png: damaged: choose"
    ):
        drop_without_flow(videos, _Flow("", skipped="abc"))


def test_two_videos_of_one_name_cannot_share_flow(root, tmp_path):
    write_images(tmp_path / "others" / "b", 3, (4, 6))
    (tmp_path / "link").symlink_to(root)
    videos, others, links = (load_videos("x", str(folder)) for folder in (root, tmp_path / "others", tmp_path / "link"))
    assert drop_without_flow([*videos, *links], _Flow("abc")) == [*videos, *links]
    for skipped in ("", "b"):
        with pytest.raises(
            UsageError, match=f"^{root}/b and {tmp_path}/others/b are two videos of one name, but flow "
        ):
            drop_without_flow([*videos, *others], _Flow("abc", skipped))


def test_missing_flow_is_counted_and_named(root):
    videos = load_videos("x", str(root))
    message = "^2 of 3 videos have no optical flow in flow, the first is 'b': make it with .*extract_flow"
    with pytest.raises(UsageError, match=message):
        drop_without_flow(videos, _Flow("ad"))
    with pytest.raises(UsageError, match="^1 of 3 videos .* the first is 'c'"):
        drop_without_flow(videos, _Flow("a", skipped="b"))


def _listed(monkeypatch):
    """Names of the folders that are listed from now on."""
    names = []
    image_names = video._image_names
    monkeypatch.setattr(video, "_image_names", lambda path: names.append(os.path.basename(path)) or image_names(path))
    return names


def test_numbers_are_kept(root, monkeypatch):
    assert count_frames(root) == {"a": 5, "b": 3, "c": 1}
    before = (root / INDEX).stat().st_mtime_ns
    names = _listed(monkeypatch)
    assert list(count_frames(root).items()) == [("a", 5), ("b", 3), ("c", 1)]
    assert names == [] and (root / INDEX).stat().st_mtime_ns == before
    # A folder that has changed is counted again; one that has gone is forgotten.
    (root / "a" / "004.png").unlink()
    (root / "c" / "000.png").unlink()
    (root / "c").rmdir()
    write_images(root / "d", 2, (4, 6))
    assert count_frames(root) == {"a": 4, "b": 3, "d": 2}
    assert names == ["a", "d"]
    assert list(json.loads((root / INDEX).read_text())["folders"]) == ["b"]  # the others changed a moment ago


def test_a_change_in_the_tick_of_the_clock_is_seen(root, monkeypatch):
    now = time.time_ns()
    os.utime(root / "a", ns=(now, now))
    assert count_frames(root)["a"] == 5
    (root / "a" / "004.png").unlink()
    os.utime(root / "a", ns=(now, now))  # so coarse is the time of some file systems
    assert count_frames(root)["a"] == 4


@pytest.mark.parametrize(
    "text", ["", '{"version": 1, "folders": {"a": [1', "[]", "{}", '{"version": 0, "folders": {"a": [0, 9]}}']
)
def test_a_damaged_index_is_made_anew(root, text):
    (root / INDEX).write_text(text)
    assert count_frames(root) == {"a": 5, "b": 3, "c": 1}
    assert json.loads((root / INDEX).read_text())["folders"]["a"][1] == 5


def test_where_nobody_writes(root, monkeypatch):
    def fail(path, content):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(video, "write_json", fail)
    for _ in range(2):
        with logged(LOGGER) as messages:
            assert count_frames(root) == {"a": 5, "b": 3, "c": 1}
        assert messages == ["The numbers of frames are not kept: [Errno 13] Permission denied."]
    assert not (root / INDEX).exists()


def test_registration(root, monkeypatch):
    registered = {}
    monkeypatch.setattr(DatasetCatalog, "register", registered.__setitem__)
    name = f"video:{root}"
    register_video(name, str(root))
    assert [item["video"] for item in registered[name]()] == ["a", "b", "c"]
    with pytest.raises(UsageError, match="video:none.*no folder"):
        register_video("video:none", str(root / "none"))
    assert list(registered) == [name]

    register_bdd100k_video(str(root / "datasets"))  # nothing is read before it is used
    load = registered["bdd100k_video_train"]
    with pytest.raises(UsageError, match="'bdd100k_video_train': there is no folder .*/datasets/bdd100k/images/train"):
        load()
    write_images(root / "datasets" / "bdd100k" / "images" / "train" / "0000f77c-6257be58", 2, (4, 6))
    assert load() == [
        {
            "file_name": f"{root}/datasets/bdd100k/images/train/0000f77c-6257be58",
            "video": "0000f77c-6257be58",
            "num_frames": 2,
        }
    ]
