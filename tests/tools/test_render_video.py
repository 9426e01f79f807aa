"""Rendered videos on disk: readable, complete or absent, and the same however they came about."""

import errno
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from cityscapesscripts.helpers.labels import name2label
from detectron2.data import DatasetCatalog
from PIL import Image
from rendering import files_of

from pixpro_d2.data import ensure_registered
from pixpro_d2.extras.scenes import render_video as rendering
from pixpro_d2.extras.scenes.video_scene import render_clip
from pixpro_d2.extras.scenes.writers.cityscapes import BACKGROUND, LABELS
from pixpro_d2.flow_files import FlowFiles
from pixpro_d2.tools import render_video
from pixpro_d2.utils.errors import UsageError

SMALL = {"frames": 4, "size": (48, 64), "seed": 5, "flow_scale": 8, "labelled": 2}


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    out = tmp_path_factory.mktemp("render") / "videos"
    assert rendering.render_videos(out, 4, **SMALL) == 4
    return out


@pytest.fixture(scope="module")
def clips():
    return [render_clip(np.random.default_rng((5, number)), 4, 48, 64) for number in range(4)]


def test_frames(videos, clips):
    assert sorted(path.name for path in (videos / "frames").iterdir()) == [f"{number:06d}" for number in range(4)]
    for number, clip in enumerate(clips):
        paths = sorted((videos / "frames" / f"{number:06d}").iterdir())
        assert [path.name for path in paths] == ["00001.jpg", "00002.jpg", "00003.jpg", "00004.jpg"]
        for path, frame in zip(paths, clip.frames):
            assert np.abs(np.asarray(Image.open(path)).astype(int) - frame).mean() < 12  # what JPEG loses


def test_exact_flow_and_masks(videos, clips):
    for number, clip in enumerate(clips):
        folder = videos / "exact" / f"{number:06d}"
        stored = {path.stem: np.load(path, allow_pickle=False) for path in folder.iterdir()}
        assert sorted(stored) == ["backward", "forward", "visible_backward", "visible_forward"]
        for name, array in stored.items():
            np.testing.assert_array_equal(array, getattr(clip, name))


def test_flow_files(videos, clips):
    flow = FlowFiles(videos / "flow")
    for number, clip in enumerate(clips):
        flow.check(f"{number:06d}", 4, (48, 64))
        there, back = flow.read(f"{number:06d}", 1, 2)
        assert there.shape == back.shape == (2, 2, 6, 8)
        # In the order of use: 1 -> 2 -> 3 and 3 -> 2 -> 1. The corner points of the grid are the corner pixels.
        for steps, flows in ((there, clip.forward[1:3]), (back, clip.backward[2:0:-1])):
            corners = flows[:, :, :: 48 - 1, :: 64 - 1] / 8
            np.testing.assert_allclose(steps[:, :, ::5, ::7], corners, rtol=1e-3, atol=1e-4)
    assert len(json.loads((videos / "flow" / "manifest.json").read_text())["videos"]) == 4


def test_labels_are_those_of_the_frames(videos, clips):
    names = [f"cityscapes:{videos}@{split}" for split in ("train", "val")]
    ensure_registered(names)
    train_ids = np.array([name2label[name].trainId for name in (BACKGROUND, *LABELS)])
    numbers = {}
    for name in names:
        records = DatasetCatalog.get(name)
        numbers[name] = [int(record["file_name"].split("_")[-3]) for record in records]
        for record, number in zip(records, numbers[name]):
            video, frame = divmod(number, 4)
            np.testing.assert_array_equal(np.asarray(Image.open(record["file_name"])), clips[video].frames[frame])
            labels = np.asarray(Image.open(record["sem_seg_file_name"]))
            assert (labels == train_ids[clips[video].labels[frame]]).mean() > 0.95  # Rings count without their holes.
    assert len(numbers[names[0]]) >= 4 and {number // 4 for number in numbers[names[0]]} <= {0, 1, 2}
    assert {number // 4 for number in numbers[names[1]]} <= {3}


def test_labelled_objects_have_their_centres_in_the_frame(tmp_path):
    rendering.render_videos(tmp_path / "videos", 2, frames=30, size=(48, 64), labelled=30, arrays=False)
    written = {path.name.split("_")[1] for path in (tmp_path / "videos" / "leftImg8bit").rglob("*.png")}
    fit = 0
    for video in range(2):
        clip = render_clip(np.random.default_rng((0, video)), 30, 48, 64)
        for frame in range(30):
            objects = clip.scene.seen(frame).objects
            shown = [objects[layer - 1] for layer in np.unique(clip.layers[frame]) if layer]
            inside = all(0 < obj.centre[0] < 64 and 0 < obj.centre[1] < 48 for obj in shown)
            assert (f"{video * 30 + frame:06d}" in written) == inside
            fit += inside
    assert 0 < fit < 60
    assert not (tmp_path / "videos" / "exact").exists() and not (tmp_path / "videos" / "flow").exists()


def test_videos_without_labels_need_no_cityscapesscripts(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "cityscapesscripts", None)  # an import fails
    with pytest.raises(UsageError, match="need cityscapesscripts"):
        rendering.render_videos(tmp_path / "labelled", 1, **{**SMALL, "labelled": 1})
    assert rendering.render_videos(tmp_path / "plain", 1, **{**SMALL, "labelled": 0}) == 1


def test_a_folder_is_completed(videos, tmp_path):
    out = tmp_path / "videos"
    assert rendering.render_videos(out, 2, **SMALL) == 2
    first = {path: path.stat().st_mtime_ns for path in (out / "frames").rglob("*.jpg")}
    (out / ".000002.partial" / "exact").mkdir(parents=True)  # left by a run that was killed
    assert rendering.render_videos(out, 4, **SMALL) == 2
    assert {path: path.stat().st_mtime_ns for path in first} == first
    assert files_of(out) == files_of(videos)
    assert rendering.render_videos(out, 4, **SMALL) == 0


@pytest.mark.parametrize("change", [{"seed": 6}, {"frames": 5}, {"flow_scale": None}, {"clutter": False}])
def test_videos_with_other_options_are_refused(videos, change):
    before = files_of(videos)
    with pytest.raises(UsageError, match="exists"):
        rendering.render_videos(videos, 4, **{**SMALL, **change})
    assert files_of(videos) == before


def test_a_foreign_folder_is_refused(tmp_path):
    (tmp_path / "note.txt").write_text("mine")
    for out in (tmp_path, tmp_path / "note.txt"):
        with pytest.raises(UsageError, match="exists"):
            rendering.render_videos(out, 1, **SMALL)
    assert files_of(tmp_path) == {"note.txt": b"mine"}


@pytest.mark.parametrize("step", ["write_labels", "write_arrays", "write_frames", "write_flow"])
def test_a_full_disk_leaves_whole_videos_only(videos, tmp_path, monkeypatch, step):
    out = tmp_path / "videos"
    write, calls = getattr(rendering, step), []

    def fail_on_second(*args):
        calls.append(args)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, "No space left on device", "somewhere")
        return write(*args)

    with monkeypatch.context() as patch:
        patch.setattr(rendering, step, fail_on_second)
        with pytest.raises(UsageError, match=f"{out} .*No space left on device.*somewhere"):
            rendering.render_videos(out, 4, **SMALL)
    assert [path.name for path in (out / "frames").iterdir()] == ["000000"]
    assert not list(out.glob(".*"))
    assert files_of(out).items() <= files_of(videos).items()
    assert rendering.render_videos(out, 4, **SMALL) == 3
    assert files_of(out) == files_of(videos)


def test_frames_are_put_in_place_last(tmp_path, monkeypatch):
    out, moved, replace = tmp_path / "videos", [], os.replace
    monkeypatch.setattr(os, "replace", lambda source, target: moved.append(Path(target)) or replace(source, target))
    rendering.render_videos(out, 1, **SMALL)
    assert out / "exact" / "000000" in moved
    assert set(moved[moved.index(out / "frames" / "000000") + 1 :]) <= {out / "flow" / "manifest.json"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"frames": 1}, "at least 2"),
        ({"seed": -1}, "negative"),
        ({"labelled": -1}, "negative"),
        ({"videos": 0}, "positive"),
        ({"flow_scale": 5}, "divide the height 48 and the width 64"),
        ({"flow_scale": 0}, "divide"),
        ({"size": (16, 64)}, "32 x 32"),
    ],
)
def test_options_that_cannot_be_met_are_refused(tmp_path, options, message):
    with pytest.raises(UsageError, match=message):
        rendering.render_videos(tmp_path / "videos", **{"videos": 1, **SMALL, **options})
    assert not list(tmp_path.rglob("*.jpg")) and not list(tmp_path.rglob("*partial*"))


def test_main_says_what_it_wrote(videos, tmp_path, capsys):
    argv = [str(tmp_path / "videos"), "--videos", "4", "--frames", "4", "--size", "48x64", "--seed", "5"]
    argv += ["--labelled", "2", "--flow-scale", "8"]
    render_video.main(argv)
    assert files_of(tmp_path / "videos") == files_of(videos)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{tmp_path / 'videos'}: rendered 4 of 4 videos of 4 frames, 48x64; it holds"
    assert any(f"video:{tmp_path / 'videos' / 'frames'}" in line for line in lines)
    assert any(f"cityscapes:{tmp_path / 'videos'}@train" in line for line in lines)
    render_video.main(argv)
    assert "rendered 0 of 4 videos" in capsys.readouterr().out


def test_main_refuses_in_one_line(tmp_path, capsys):
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(SystemExit, match=f"^error: {tmp_path} exists"):
        render_video.main([str(tmp_path)])
    with pytest.raises(SystemExit):
        render_video.main([str(tmp_path / "videos"), "--size", "48"])
    assert "--size" in capsys.readouterr().err
