"""One video file to a folder of frames: which frames, their sizes and orientation, and every way to fail."""

import errno
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from data_helpers import logged
from PIL import Image
from video_helpers import grey_frames, number_of, write_video

from pixpro_d2.extras.video import decoding as video_decoding
from pixpro_d2.extras.video.decoding import (
    RECORD,
    VideoError,
    extract_frames,
    is_cut_off,
    read_frames,
    shrink,
    write_frames,
)
from pixpro_d2.utils.errors import UsageError


def _numbers(path, fps):
    return [number_of(image) for _, image in read_frames(str(path), fps)]


@pytest.mark.parametrize(
    ("name", "rate", "fps", "expected"),
    [
        ("a.mp4", 30, 10, [0, 3, 6, 9, 12, 15, 18]),
        ("a.mov", 30, 10, [0, 3, 6, 9, 12, 15, 18]),
        ("a.avi", 30, 10, [0, 3, 6, 9, 12, 15, 18]),
        ("a.mkv", 30, 10, [0, 3, 6, 9, 12, 15, 18]),  # whole milliseconds: 0, 33, 67, 100, ...
        ("a.mp4", 25, 10, [0, 2, 5, 7, 10, 12, 15, 17]),  # 100 ms lies between 80 and 120: the earlier
        ("a.mp4", 24, 10, [0, 2, 5, 7, 10, 12, 14, 17, 19]),  # frames 2.4, 4.8, 7.2, 9.6, 12, 14.4, 16.8, 19.2
        ("a.avi", 10, 10, list(range(20))),
        ("a.mp4", 5, 10, list(range(20))),  # none twice
        ("a.mkv", 30, 29, [i for i in range(20) if i != 15]),  # tick 15 is at frame 15.5: 16 of ticks and frames go on
    ],
)
def test_which_frames(tmp_path, name, rate, fps, expected):
    write_video(tmp_path / name, grey_frames(20), rate)
    frames = list(read_frames(str(tmp_path / name), fps))
    assert [number_of(image) for _, image in frames] == expected
    assert [time for time, _ in frames] == pytest.approx([i / rate for i in expected], abs=1e-3)
    assert all(image.shape == (48, 64, 3) and image.dtype == np.uint8 for _, image in frames)


class _Capture:
    """Stands in for cv2.VideoCapture: ``stamps`` in seconds, of which the frames show the number."""

    def __init__(self, stamps, rate):
        self.stamps, self.number, self.released = stamps, -1, False
        self.values = {cv2.CAP_PROP_FPS: rate, cv2.CAP_PROP_FRAME_COUNT: len(stamps)}

    def isOpened(self):
        return True

    def set(self, key, value):
        self.values[key] = value

    def get(self, key):
        return 1000 * self.stamps[self.number] if key == cv2.CAP_PROP_POS_MSEC else self.values[key]

    def grab(self):
        self.number += 1
        return self.number < len(self.stamps)

    def retrieve(self):
        return True, grey_frames(self.number + 1)[-1]

    def release(self):
        self.released = True


@pytest.mark.parametrize(
    ("stamps", "rate", "expected"),
    [
        ([0.0] * 12, 30, [0, 3, 6, 9]),  # no time stamps: the frame rate
        ([7.04 + i / 30 for i in range(12)], 30, [0, 3, 6, 9]),  # the clock starts with the first frame
        ([0, 0.2, 0.21, 0.3, 0.31, 0.9], 30, [0, 1, 3, 5]),  # a rate that varies
        # Stamps stand still at 2 / 30 s: from there on a frame every 1 / 30 s, as before.
        ([min(i, 2) / 30 for i in range(12)], 30, [0, 3, 6, 9]),
        ([i / 30 for i in range(12)], 0, [0, 3, 6, 9]),  # no frame rate: the time stamps
        ([0.0] * 12, 0, [0]),  # neither
    ],
)
def test_time_stamps(monkeypatch, stamps, rate, expected):
    capture = _Capture(stamps, rate)
    monkeypatch.setattr(cv2, "VideoCapture", lambda *args: capture)
    assert _numbers("x.mp4", 10) == expected
    assert capture.released and capture.values[cv2.CAP_PROP_ORIENTATION_AUTO] == 1


def test_a_frame_that_does_not_decode(monkeypatch):
    capture = _Capture([0, 0.1, 0.2], 10)
    monkeypatch.setattr(cv2, "VideoCapture", lambda *args: capture)
    monkeypatch.setattr(capture, "retrieve", lambda: (False, None))
    with pytest.raises(VideoError, match=r"frame at 0\.00 s cannot be decoded"):
        _numbers("x.mp4", 10)
    assert capture.released


def test_the_rotation_of_a_phone(tmp_path):
    # Left half white. In the track header of MP4, 40 bytes behind its name, is a matrix of 16.16 numbers (the last
    # column 2.30): [[0, 1, 0], [-1, 0, 0], [0, 0, 1]] turns by 90 degrees clockwise, so that the top gets white.
    frame = np.zeros((48, 64, 3), np.uint8)
    frame[:, :32] = 255
    path = tmp_path / "phone.mp4"
    write_video(path, [frame] * 3, 10)
    content = bytearray(path.read_bytes())
    place = content.index(b"tkhd") + 44
    matrix = np.array([0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30], ">i4").tobytes()
    upright = np.array([1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30], ">i4").tobytes()
    assert content[place : place + 36] == upright
    content[place : place + 36] = matrix
    path.write_bytes(content)
    _, image = next(read_frames(str(path), 10))
    assert image.shape == (64, 48, 3)
    assert image[:28].min() > 200 and image[36:].max() < 55


@pytest.mark.parametrize("content", [b"", b"This is no video."])
def test_files_that_are_no_videos(tmp_path, content):
    path = tmp_path / "a.mp4"
    path.write_bytes(content)
    with pytest.raises(VideoError, match="not a video"):
        _numbers(path, 10)


@pytest.mark.parametrize(("name", "reason"), [("a.mp4", "not a video"), ("a.avi", r"breaks off after 0\.\d of 2\.0 s")])
def test_videos_that_break_off(tmp_path, name, reason):
    # An MP4 has its table of frames at the end, an AVI can be read as far as it goes.
    path = tmp_path / name
    write_video(path, [*grey_frames(20)] * 3, 30)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])
    with pytest.raises(VideoError, match=reason):
        _numbers(path, 10)


@pytest.mark.parametrize(
    ("stamps", "count", "name", "problem"),
    [
        ([i / 10 for i in range(6)], 20, "a.mp4", "error"),
        ([i / 10 for i in range(6)], 20, "trimmed.mp4", "warning"),  # its file is whole: it stores hidden frames
        ([i / 10 for i in range(6)], 20, "a.MKV", "warning"),  # its sound may go on
        ([i / 10 for i in range(19)], 20, "a.mkv", None),
        ([i / 2 for i in range(6)], 20, "a.avi", None),  # frames were left out, but not the end
        ([i / 30 for i in range(20)], 20, "a.mov", None),  # the rate varies: faster than it is on average
    ],
)
def test_only_a_counted_video_certainly_breaks_off(monkeypatch, stamps, count, name, problem):
    capture = _Capture(stamps, 10)
    capture.values[cv2.CAP_PROP_FRAME_COUNT] = count
    monkeypatch.setattr(cv2, "VideoCapture", lambda *args: capture)
    monkeypatch.setattr(video_decoding, "is_cut_off", lambda path: path == "a.mp4")
    with logged("pixpro_d2.extras.video") as messages:
        if problem == "error":
            with pytest.raises(VideoError, match=r"^breaks off after 0\.6 of 2\.0 s"):
                list(read_frames(name, 10))
        else:
            list(read_frames(name, 10))
    assert messages == [f"{name} perhaps breaks off after 0.6 of 2.0 s: its frames so far are taken."] * (
        problem == "warning"
    )


@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
def test_a_file_is_cut_off_if_a_box_is(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    write_video(path, grey_frames(20), 20)
    content = path.read_bytes()
    assert not is_cut_off(str(path))
    for wrong in (content[:-1], content[: len(content) // 3], content + b"\0\0\0\4free"):
        path.write_bytes(wrong)
        assert is_cut_off(str(path))
    large = b"\0\0\0\1mdat" + (32).to_bytes(8, "big") + bytes(16)  # a box whose size has 8 bytes
    for whole, cut in ((large, large[:-1]), (large + b"\0\0\0\0mdat rest", large + b"\0\0\0\x20mdat rest")):
        for is_cut, text in enumerate((whole, cut)):
            path.write_bytes(text)
            assert is_cut_off(str(path)) == bool(is_cut)


def test_awkward_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("two words.mp4", "co:lon.mp4", "%05d.mp4", "ünïcode 画像.avi"):
        write_video(tmp_path / "plain" / f"a{Path(name).suffix}", grey_frames(3), 10)
        (tmp_path / "plain" / f"a{Path(name).suffix}").rename(name)
        assert _numbers(name, 10) == [0, 1, 2], name


def test_shrink():
    image = np.arange(8 * 12 * 3, dtype=np.uint8).reshape(8, 12, 3)
    assert shrink(image, 4).shape == (4, 6, 3)
    assert shrink(image.transpose(1, 0, 2), 4).shape == (6, 4, 3)
    np.testing.assert_allclose(shrink(image, 4)[0, 0], image[:2, :2].astype(float).mean((0, 1)), atol=0.51)
    for short_side in (None, 8, 100):
        assert shrink(image, short_side) is image
    assert shrink(np.zeros((720, 1280, 3), np.uint8), 300).shape == (300, 533, 3)  # 533.3


def test_files_of_frames(tmp_path):
    image = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    image = cv2.resize(image, (48, 32))
    record = write_frames([(3.0, image), (3.2, image[::-1]), (4.0, image)], tmp_path)
    assert record == {"frames": 3, "size": [32, 48], "fps": 2.0, "longest_step": 0.8}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["00001.jpg", "00002.jpg", "00003.jpg"]
    for name, expected in (("00001.jpg", image), ("00002.jpg", image[::-1])):
        written = np.asarray(Image.open(tmp_path / name).convert("RGB"), dtype=float)
        assert np.abs(written - expected[..., ::-1]).mean() < 12  # RGB again, but for the loss of JPEG
    tables = Image.open(tmp_path / "00001.jpg").quantization
    assert write_frames([(0, image), (1, image)], tmp_path, short_side=16, quality=30)["size"] == [16, 24]
    coarse = Image.open(tmp_path / "00001.jpg")
    assert coarse.size == (24, 16) and sum(coarse.quantization[0]) > 5 * sum(tables[0])


def test_frames_that_are_no_video(tmp_path):
    frames = grey_frames(3)
    for few in ([], [(0.0, frames[0])]):
        with pytest.raises(VideoError, match="fewer than 2 frames"):
            write_frames(few, tmp_path)
    with pytest.raises(VideoError, match=r"the frame at 1\.50 s has another size"):
        write_frames([(0.0, frames[0]), (1.5, frames[1][:-2])], tmp_path)


@pytest.fixture
def video(tmp_path):
    path = tmp_path / "src" / "a.mp4"
    write_video(path, grey_frames(20), 20)
    (tmp_path / "dst").mkdir()
    return path


def test_extract(tmp_path, video):
    folder = tmp_path / "dst" / "a"
    stale = tmp_path / "dst" / ".a.tmp"
    stale.mkdir()
    (stale / "00099.jpg").write_text("of a process that was killed")
    folder.mkdir()  # an empty one may be there
    record = extract_frames(str(video), str(folder), 10, short_side=24)
    assert record == {
        "frames": 10,
        "size": [24, 32],
        "fps": 10.0,
        "longest_step": 0.1,
        "source": str(video),
        "source_bytes": video.stat().st_size,
        "asked": {"fps": 10, "short_side": 24, "quality": 95},
    }
    assert json.loads((folder / RECORD).read_text()) == record
    assert sorted(path.name for path in folder.glob("*.jpg")) == [f"{i:05d}.jpg" for i in range(1, 11)]
    assert [number_of(Image.open(path)) for path in sorted(folder.glob("*.jpg"))] == list(range(0, 20, 2))
    assert [path.name for path in (tmp_path / "dst").iterdir()] == ["a"]


def test_a_source_that_cannot_be_read(tmp_path, video):
    for name, reason in (("vanished.mp4", "No such file or directory"), ("src", "Is a directory")):
        with pytest.raises(VideoError, match=rf"^{tmp_path}/{name}: cannot be read \({reason}\)"):
            extract_frames(str(tmp_path / name), str(tmp_path / "dst" / "a"), 10)
    assert not list((tmp_path / "dst").iterdir())


def test_a_full_disk_leaves_nothing(tmp_path, video, monkeypatch):
    write_bytes = Path.write_bytes

    def fail(path, data):
        if path.name == "00004.jpg":
            raise OSError(errno.ENOSPC, "No space left on device")
        return write_bytes(path, data)

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(UsageError) as caught:
        extract_frames(str(video), str(tmp_path / "dst" / "a"), 10)
    assert str(caught.value) == (
        f"{tmp_path}/dst/a: the frames of {video} cannot be written (No space left on device)."
    )
    assert not list((tmp_path / "dst").iterdir())


def test_a_bad_video_leaves_nothing(tmp_path, video, monkeypatch):
    folder = tmp_path / "dst" / "a"
    with pytest.raises(VideoError, match=f"^{video}: gives fewer than 2 frames"):
        extract_frames(str(video), str(folder), 0.5)  # of one second
    monkeypatch.setattr(cv2, "imencode", lambda *args: cv2.resize(np.zeros((0, 0)), (1, 1)))
    with pytest.raises(VideoError, match=f"^{video}: OpenCV"):
        extract_frames(str(video), str(folder), 10)
    assert not list((tmp_path / "dst").iterdir())


def test_frames_that_are_there_stay(tmp_path, video):
    folder = tmp_path / "dst" / "a"
    folder.mkdir()
    (folder / "00001.jpg").write_text("old")
    with pytest.raises(UsageError, match="cannot be written"):
        extract_frames(str(video), str(folder), 10)
    assert (folder / "00001.jpg").read_text() == "old"
    assert [path.name for path in (tmp_path / "dst").iterdir()] == ["a"]
