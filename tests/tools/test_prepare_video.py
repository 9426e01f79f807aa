"""The command that turns videos into folders of frames: names, resuming, bad videos, mistakes."""

import json
import multiprocessing
import os
import shutil
import time
from pathlib import Path

import pytest
from video_helpers import grey_frames, write_video

from pixpro_d2.extras.video import decoding as video_decoding
from pixpro_d2.extras.video.preparation import describe_steps, find_videos
from pixpro_d2.tools.prepare_video import main
from pixpro_d2.utils.errors import UsageError


@pytest.fixture
def source(tmp_path):
    """Two videos of 2 s and 1 s at 20 frames a second, in folders."""
    write_video(tmp_path / "src" / "b.mp4", grey_frames(20) * 2, 20)
    write_video(tmp_path / "src" / "day" / "a.avi", grey_frames(20, 32, 48), 20)
    return tmp_path / "src"


def _run(*argv):
    """Exit code."""
    with pytest.raises(SystemExit) as caught:
        main([str(word) for word in (*argv, "--workers", "2")])
    return caught.value.code


def _counts(target):
    return {folder.name: len(list(folder.glob("*.jpg"))) for folder in target.iterdir() if folder.is_dir()}


def test_frames_and_manifest(tmp_path, source, capsys):
    target = tmp_path / "deep" / "dst"
    assert _run(source, target, "--fps", 10, "--short-side", 24) == 0
    assert _counts(target) == {"b": 20, "day_a": 10}
    assert sorted(os.listdir(target)) == ["b", "day_a", "manifest.json"]
    videos = json.loads((target / "manifest.json").read_text())["videos"]
    asked = {"fps": 10.0, "short_side": 24, "quality": 95}
    assert videos == {
        name: {
            "frames": frames,
            "size": size,
            "fps": 10.0,
            "longest_step": 0.1,
            "source": str(source / path),
            "source_bytes": (source / path).stat().st_size,
            "asked": asked,
        }
        for name, path, frames, size in (("b", "b.mp4", 20, [24, 32]), ("day_a", "day/a.avi", 10, [24, 36]))
    }
    assert f"{target}: 30 frames of 2 videos; 0 videos were there before" in capsys.readouterr().out


def test_resuming(tmp_path, source, capsys):
    target = tmp_path / "dst"
    assert _run(source / "b.mp4", target, "--fps", 10) == 0
    assert _counts(target) == {"b": 20}
    (target / "b" / "00001.jpg").write_text("not made anew")
    (target / "day_a").mkdir()  # another tool failed
    assert _run(source, target, "--fps", 10) == 0
    assert _counts(target) == {"b": 20, "day_a": 10}
    assert (target / "b" / "00001.jpg").read_text() == "not made anew"
    assert list(json.loads((target / "manifest.json").read_text())["videos"]) == ["b", "day_a"]
    assert "10 frames of 1 videos; 1 videos were there before" in capsys.readouterr().out
    moved = tmp_path / "moved"
    shutil.move(source, moved)  # the same videos
    assert _run(moved, target, "--fps", 10) == 0
    assert "0 frames of 0 videos; 2 videos were there before" in capsys.readouterr().out
    source.symlink_to(moved)
    assert _run(source, target, "--fps", 10) == 0


def test_a_changed_video_gets_new_frames(tmp_path, source, monkeypatch, capsys):
    """A download that had not ended is not in the way of the other videos."""
    monkeypatch.chdir(tmp_path)
    assert _run("src/b.mp4", "dst", "--fps", 10) == 0
    write_video(source / "b.mp4", grey_frames(14), 20)
    assert _run("src", "dst", "--fps", 10) == 0
    assert _counts(tmp_path / "dst") == {"b": 7, "day_a": 10}
    assert json.loads(Path("dst/manifest.json").read_text())["videos"]["b"]["frames"] == 7
    out, err = capsys.readouterr()
    assert "src/b.mp4 has changed: makes new frames." in err and "17 frames of 2 videos; 0 videos were" in out
    (source / "b.mp4").write_text("This is no video.")
    assert _run("src", "dst", "--fps", 10) == 1
    assert _counts(tmp_path / "dst") == {"b": 7, "day_a": 10}


def test_bad_videos_are_left_out(tmp_path, source, capsys):
    (source / "broken.mp4").write_bytes((source / "b.mp4").read_bytes()[:2000])
    (source / "text.mkv").write_text("This is no video.")
    write_video(source / "short.mov", grey_frames(1), 20)
    target = tmp_path / "dst"
    assert _run(source, target, "--fps", 10) == 1
    assert _counts(target) == {"b": 20, "day_a": 10}
    assert list(json.loads((target / "manifest.json").read_text())["videos"]) == ["b", "day_a"]
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert lines[-4] == "3 of 5 videos skipped:"
    assert sorted(lines[-3:]) == [
        f"  {source}/broken.mp4: not a video that can be decoded",
        f"  {source}/short.mov: gives fewer than 2 frames",
        f"  {source}/text.mkv: not a video that can be decoded",
    ]
    assert f"skipped {source}/short.mov: gives fewer" in err


def test_a_low_frame_rate_is_said(tmp_path, source, capsys):
    assert _run(source, tmp_path / "dst", "--fps", 30) == 0
    assert _counts(tmp_path / "dst") == {"b": 40, "day_a": 20}
    line = f"{source}/b.mp4: 20 frames a second on average for --fps 30, longest step 0.05 s"
    assert line in capsys.readouterr().err
    assert _run(source / "b.mp4", tmp_path / "other", "--fps", 20) == 0
    assert "on average" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("fps", "longest", "line"),
    [
        (9.0, 0.3, None),  # three ticks
        (9.5, 2.5, "9.5 frames a second on average for --fps 10, longest step 2.5 s"),  # a pause in a long video
        (8.9, 0.15, "8.9 frames a second on average for --fps 10, longest step 0.15 s"),
    ],
)
def test_pauses_and_low_rates_are_described(fps, longest, line):
    assert describe_steps({"fps": fps, "longest_step": longest, "asked": {"fps": 10.0}}) == line


def test_names(tmp_path, capsys):
    for name in ("x.mp4", "day/x.MP4", "day/two words.mov", "v1.2.avi", "day/night/x.mkv"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "day/z.wmv").touch()
    for name in ("x.txt", ".x.mp4", "._x.mp4", ".trash/x.mp4"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert {name: str(path.relative_to(tmp_path)) for name, path in find_videos(tmp_path).items()} == {
        "day_night_x": "day/night/x.mkv",
        "day_two words": "day/two words.mov",
        "day_x": "day/x.MP4",
        "v1.2": "v1.2.avi",
        "x": "x.mp4",
    }
    assert capsys.readouterr().err.startswith("Skipped 1 files that are not read (.mpg, ")
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked/y.avi").touch()
    (tmp_path / "day/0").symlink_to(tmp_path / "linked")
    (tmp_path / "day/above").symlink_to(tmp_path)  # would be followed forever
    (tmp_path / "a").symlink_to(tmp_path / "day")
    assert "day_x" in find_videos(tmp_path) and "a_x" not in find_videos(tmp_path)
    assert find_videos(tmp_path / "day")["0_y"] == tmp_path / "day/0/y.avi"
    assert find_videos(tmp_path / "day" / "x.MP4") == {"x": tmp_path / "day" / "x.MP4"}
    (tmp_path / "day" / "x.avi").touch()
    with pytest.raises(
        UsageError, match="day/x.MP4 and .*day/x.avi would both become day_x: rename|day/x.avi and .*MP4"
    ):
        find_videos(tmp_path)


def _another_video(source, target):
    _set_record(target, source="/gone/b.mp4", source_bytes=1)


def _another_camera(source, target):
    other = source.parent / "camera" / "b.mp4"  # of the same name and size
    other.parent.mkdir()
    shutil.copy(source / "b.mp4", other)
    _set_record(target, source=str(other))


def _set_record(target, **values):
    path = target / "b" / "video.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def _other_settings(source, target):
    _set_record(target, asked={"fps": 5.0, "short_side": None, "quality": 95})


def _another_tool(source, target):
    (target / "b" / "video.json").unlink()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_another_video, "dst/b has the frames of .*/b.mp4, not of .*/b.mp4: choose another DST"),
        (_another_camera, "dst/b has the frames of .*/camera/b.mp4, not of .*/src/b.mp4: choose another DST"),
        (_other_settings, "dst/b was made with fps 5.0, .*, not fps 10.0, short_side None, quality 95: remove it"),
        (_another_tool, "dst/b was not made by this command: remove it, or choose another DST"),
    ],
)
def test_other_frames_are_not_taken_for_finished(tmp_path, source, change, message):
    target = tmp_path / "dst"
    assert _run(source / "b.mp4", target, "--fps", 10) == 0
    change(source, target)
    before = sorted(target.rglob("*"))
    with pytest.raises(SystemExit, match=f"^error: .*{message}"):
        main([str(source), str(target), "--fps", "10", "--workers", "2"])
    assert sorted(target.rglob("*")) == before


def test_a_place_that_cannot_be_written(tmp_path, source):
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit, match=r"^error: The folder .*/file cannot be made \(File exists\): choose another"):
        main([str(source), str(tmp_path / "file"), "--fps", "10", "--workers", "2"])
    (tmp_path / "dst").mkdir()
    (tmp_path / "dst" / "b").write_text("")
    with pytest.raises(SystemExit, match=r"^error: .*dst/b: the frames of .* cannot be written \(Not a directory\)"):
        main([str(source), str(tmp_path / "dst"), "--fps", "10", "--workers", "2"])


@pytest.mark.skipif(
    multiprocessing.get_start_method() != "fork", reason="the processes must inherit a changed function"
)
def test_a_process_that_dies_takes_one_video_with_it(tmp_path, source, monkeypatch, capsys):
    write_frames = video_decoding.write_frames

    def write(frames, folder, *args):
        if folder.endswith("/.day_a.tmp"):
            (Path(folder) / "00001.jpg").touch()
            os._exit(1)
        return write_frames(frames, folder, *args)

    for i in range(3):  # more than there are processes, before and behind it
        for name in (f"c{i}.mp4", f"e{i}.mp4"):
            shutil.copy(source / "b.mp4", source / name)
    monkeypatch.setattr(video_decoding, "write_frames", write)
    assert _run(source, tmp_path / "dst", "--fps", 10) == 1
    names = ["b", "c0", "c1", "c2", "e0", "e1", "e2"]
    assert sorted(os.listdir(tmp_path / "dst")) == [*names, "manifest.json"]
    assert list(json.loads((tmp_path / "dst" / "manifest.json").read_text())["videos"]) == names
    assert f"{source}/day/a.avi: decoding it killed its process" in capsys.readouterr().out


@pytest.mark.skipif(
    multiprocessing.get_start_method() != "fork", reason="the processes must inherit a changed function"
)
def test_the_manifest_lists_what_an_interrupted_run_has_finished(tmp_path, source, monkeypatch, capsys):
    write_frames = video_decoding.write_frames

    def write(frames, folder, *args):
        if folder.endswith("/.day_a.tmp"):
            while not (tmp_path / "dst" / "b" / "video.json").exists():
                time.sleep(0.01)
            raise KeyboardInterrupt
        return write_frames(frames, folder, *args)

    monkeypatch.setattr(video_decoding, "write_frames", write)
    assert _run(source, tmp_path / "dst", "--fps", 10) == 130
    assert capsys.readouterr().err.endswith("stopped; the same command continues\n")
    assert list(json.loads((tmp_path / "dst" / "manifest.json").read_text())["videos"]) == ["b"]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"frames": 20}', "\0" * 20])
def test_a_damaged_record_is_of_an_unfinished_video(tmp_path, source, text):
    target = tmp_path / "dst"
    assert _run(source, target, "--fps", 10) == 0
    (target / "b" / "video.json").write_text(text)
    (target / "b" / "00001.jpg").write_text("perhaps damaged as well")
    assert _run(source, target, "--fps", 10) == 0
    assert _counts(target) == {"b": 20, "day_a": 10}
    assert (target / "b" / "00001.jpg").stat().st_size > 100
    assert list(json.loads((target / "manifest.json").read_text())["videos"]) == ["b", "day_a"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["none"], "error: There is no file or folder none"),
        (["."], r"error: No video \(.mov, .mp4, .avi, .mkv, .webm, .m4v\) below the folder \."),
    ],
)
def test_sources_without_videos(tmp_path, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=message):
        main([*words, "dst", "--fps", "10"])
    assert not (tmp_path / "dst").exists()


@pytest.mark.parametrize(
    "words",
    [[], ["--fps", "0"], ["--fps", "inf"], ["--fps", "1", "--short-side", "0"], ["--fps", "1", "--workers", "-1"]],
)
def test_mistakes_in_the_options(capsys, words):
    with pytest.raises(SystemExit) as caught:
        main(["src", "dst", *words])
    assert caught.value.code == 2
    assert "--fps" in capsys.readouterr().err.splitlines()[-1] or words[2:]
