"""This project's files of optical flow: what is written, and what is left when writing fails."""

import json
import os
import shutil

import numpy as np
import pytest
import torch
from flow_helpers import SIZE, flow, write_native

from pixpro_d2.flow_files import FlowFiles, write_flow, write_manifest
from pixpro_d2.flow_files.native import FlowInfo, read_info, restore, stream_flow


def test_what_is_written_beside_the_arrays(tmp_path):
    write_native(tmp_path, "b", *flow())
    write_flow(tmp_path, "a", *map(torch.from_numpy, flow(1, steps=2, size=(3, 4))), [17, 25], "dis")
    expected = {"video": "a", "frames": 3, "frame_size": [17, 25], "flow_size": [3, 4], "estimator": "dis"}
    expected |= {"fingerprint": None, "folder": None, "pixel_range": []}  # were not given
    content = json.loads((tmp_path / "a/flow.json").read_text())
    assert content == {**expected, "scale": 6.25, "version": 1}  # 25 / 4 is more than 17 / 3
    assert read_info(tmp_path, "a") == FlowInfo("a", 3, (17, 25), (3, 4), "dis")
    assert sorted(os.listdir(tmp_path / "a")) == ["backward.npy", "flow.json", "forward.npy"]
    assert np.load(tmp_path / "a/forward.npy").dtype == np.float16
    (tmp_path / ".c.partial").mkdir()  # of a process that is at it, or was killed
    (tmp_path / ".c.partial/flow.json").write_text("{}")
    assert write_manifest(tmp_path) == 2
    manifest = json.loads((tmp_path / "manifest.json").read_text())
    assert manifest["version"] == 1 and list(manifest["videos"]) == ["a", "b"] and manifest["skipped"] == {}
    assert manifest["videos"]["a"] == content


def test_the_manifest_is_written_in_spite_of_damaged_and_vanished_files(tmp_path):
    write_native(tmp_path, "a", *flow())
    for name, text in (("b", "damaged"), ("c", None)):
        (tmp_path / name).mkdir()
        if text:
            (tmp_path / name / "flow.json").write_text(text)
    assert write_manifest(tmp_path) == 1
    (tmp_path / "manifest.json").write_text("damaged")
    assert FlowFiles(tmp_path).skipped == {}
    assert write_manifest(tmp_path) == 1


def test_several_processes_may_write_the_manifest(tmp_path, monkeypatch):
    write_native(tmp_path, "a", *flow())
    replace = os.replace

    def interleaved(source, target):  # another process starts and ends in the middle
        monkeypatch.undo()
        assert write_manifest(tmp_path) == 1
        replace(source, target)

    monkeypatch.setattr(os, "replace", interleaved)
    assert write_manifest(tmp_path) == 1
    assert sorted(os.listdir(tmp_path)) == ["a", "manifest.json"]


def test_skipped_videos_are_remembered_until_they_have_flow(tmp_path):
    write_native(tmp_path, "a", *flow())
    files = FlowFiles(tmp_path)
    assert files.skipped == {}
    write_manifest(tmp_path, {"b": "b: damaged", "c": "c: damaged"})
    assert files.skipped == {"b": "b: damaged", "c": "c: damaged"}
    write_manifest(tmp_path, {"a": None, "c": None, "d": "d: damaged"})  # as another part of the videos
    assert files.skipped == {"b": "b: damaged", "d": "d: damaged"}
    write_manifest(tmp_path)
    assert files.skipped == {"b": "b: damaged", "d": "d: damaged"}


@pytest.mark.parametrize("lacking", [["fingerprint", "folder", "pixel_range"], ["folder", "pixel_range"]])
def test_flow_of_older_versions_is_read(tmp_path, lacking):
    info = FlowInfo("a", 6, SIZE, (2, 3), "exact", "cbf43926", "/videos/a", (0.0, 4095.0))
    stream_flow(tmp_path, info, [flow()])
    assert read_info(tmp_path, "a") == info
    path = tmp_path / "a/flow.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({key: value for key, value in content.items() if key not in lacking}))
    mark = None if "fingerprint" in lacking else "cbf43926"
    assert read_info(tmp_path, "a") == FlowInfo("a", 6, SIZE, (2, 3), "exact", mark, None, ())


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"version": 0}', '{"version": 1, "video": "a"}'])
def test_no_description_is_read_from_other_files(tmp_path, text):
    (tmp_path / "a").mkdir()
    assert read_info(tmp_path, "a") is None
    (tmp_path / "a/flow.json").write_text(text)
    assert read_info(tmp_path, "a") is None


def test_the_size_in_memory_is_that_of_the_files(tmp_path):
    info = FlowInfo("a", 400, (720, 1280), (90, 160), "dis")
    assert info.num_bytes == 2 * 399 * 2 * 90 * 160 * 2  # 23 MB a direction, half of the reference's 46 MB
    write_native(tmp_path, "a", *flow())
    headers = 2 * 128
    size = sum((tmp_path / "a" / name).stat().st_size for name in ("forward.npy", "backward.npy"))
    assert read_info(tmp_path, "a").num_bytes == size - headers


def _failing(forward, backward, error):
    yield forward[:2], backward[:2]
    raise error


@pytest.mark.parametrize("error", [RuntimeError("no flow"), KeyboardInterrupt(), OSError(28, "No space left")])
def test_a_failure_keeps_the_old_flow_and_leaves_nothing_else(tmp_path, error):
    old, new = flow(0), flow(1)
    write_native(tmp_path, "a", *old)
    info = read_info(tmp_path, "a")
    for name in ("a", "b"):
        with pytest.raises(type(error)):
            stream_flow(tmp_path, info._replace(video=name), _failing(*new, error))
    assert os.listdir(tmp_path) == ["a"]
    np.testing.assert_array_equal(FlowFiles(tmp_path).read("a", 0, 5)[0], old[0])


@pytest.mark.parametrize("parts", [(slice(0, 4),), (slice(0, 5), slice(0, 1)), ()])
def test_missing_and_surplus_steps_are_no_flow(tmp_path, parts):
    forward, backward = flow()
    info = FlowInfo("a", 6, SIZE, (2, 3), "exact")
    with pytest.raises(ValueError, match="'a'"):
        stream_flow(tmp_path, info, [(forward[part], backward[part]) for part in parts])
    with pytest.raises(ValueError, match="'a'"):
        write_flow(tmp_path, "a", forward, backward[:4], SIZE, "exact")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("renames", [1, 2])
def test_a_replacement_that_is_killed_is_mended_by_the_next(tmp_path, monkeypatch, renames):
    old, new = flow(0), flow(1)
    write_native(tmp_path, "a", *old)
    rename, done = os.rename, []

    def killed(*paths):
        if len(done) == renames:
            os.kill(os.getpid(), 9)
        rename(*paths)
        done.append(paths)

    process = os.fork()
    if not process:  # killed after the old flow was put aside, or while it is removed
        monkeypatch.setattr(os, "rename", killed)
        monkeypatch.setattr(shutil, "rmtree", lambda path, **options: len(done) == 2 and os.kill(os.getpid(), 9))
        try:
            write_native(tmp_path, "a", *new)
        finally:
            os._exit(1)
    assert os.waitpid(process, 0)[1] == 9
    assert (tmp_path / ".a.stale").exists() and (tmp_path / "a").exists() == (renames == 2)
    restore(tmp_path, "a")
    assert not (tmp_path / ".a.stale").exists()
    np.testing.assert_array_equal(FlowFiles(tmp_path).read("a", 0, 5)[0], (old, new)[renames - 1][0])


def test_an_error_between_the_renames_keeps_the_old_flow(tmp_path, monkeypatch):
    old, new = flow(0), flow(1)
    write_native(tmp_path, "a", *old)
    rename = os.rename

    def fail(source, target):
        if os.path.basename(source) == ".a.partial":
            raise KeyboardInterrupt
        rename(source, target)

    monkeypatch.setattr(os, "rename", fail)
    with pytest.raises(KeyboardInterrupt):
        write_native(tmp_path, "a", *new)
    assert os.listdir(tmp_path) == ["a"]
    np.testing.assert_array_equal(FlowFiles(tmp_path).read("a", 0, 5)[0], old[0])


def test_new_flow_takes_the_place_of_old_and_of_what_a_killed_process_left(tmp_path):
    write_native(tmp_path, "a", *flow(0, steps=3))
    for name in (".a.partial", ".a.stale"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "forward.npy").write_text("half")
    new = flow(1)
    write_native(tmp_path, "a", *new)
    assert os.listdir(tmp_path) == ["a"]
    files = FlowFiles(tmp_path)
    files.check("a", 6, SIZE)
    np.testing.assert_array_equal(files.read("a", 0, 5)[0], new[0])
