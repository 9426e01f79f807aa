"""What the inspection of videos finds."""

import numpy as np
import pytest
from data_helpers import write_images
from PIL import Image

from pixpro_d2.data.datasets.video import list_frames, load_videos
from pixpro_d2.data.inspection.videos import inspect_videos
from pixpro_d2.flow_files import FlowFiles, write_flow
from pixpro_d2.flow_files.native import fingerprint


@pytest.fixture
def root(tmp_path):
    for name, count, size in (("a", 5, (12, 16)), ("b", 3, (16, 12)), ("c", 1, (12, 16)), ("d", 4, (12, 16))):
        write_images(tmp_path / "videos" / name, count, size)
    return tmp_path / "videos"


def _videos(root):
    return load_videos("x", str(root))


def test_good_videos(root):
    report = inspect_videos(_videos(root))
    assert report.frames == {"a": 5, "b": 3, "c": 1, "d": 4} and report.opened == 13
    assert report.sizes == [(16, 12), (12, 16), (16, 12), (16, 12)]
    assert report.problems == [] and report.with_flow is None


def test_a_sample_opens_the_ends_of_some_videos(root):
    (root / "a" / "002.png").write_bytes(b"")
    report = inspect_videos(_videos(root), sample=2)  # a and c
    assert report.opened == 3 and report.sizes == [(16, 12)] * 2 and report.problems == []
    (root / "a" / "004.png").write_bytes(b"")
    (problem,) = inspect_videos(_videos(root), sample=2).problems
    assert problem.startswith(f"unreadable image {root}/a/004.png")
    assert inspect_videos(_videos(root)).opened == 11


def test_frames_of_several_sizes(root):
    Image.new("RGB", (20, 20)).save(root / "b" / "001.png")
    (problem,) = inspect_videos(_videos(root)).problems
    assert problem == f"{root}/b has frames of several sizes: 12 x 16, 20 x 20 pixels"
    assert inspect_videos(_videos(root), sample=4).problems == []  # the ends of b are of one size


@pytest.mark.parametrize(
    ("names", "example"),
    [
        (["0.1", "0.2", "0.033"], "0.1 and 0.033"),
        (["t0.0s", "t0.04s", "t0.08s"], "t0.0s and t0.04s"),
        (["0.00", "0.04", "0.20"], None),
        (["cam1.0", "cam1.9", "cam1.10"], None),  # a counter
        (["cam1.0998", "cam1.9999", "cam1.10000"], None),  # a counter that was padded with zeros
        (["v1.2.01", "v1.2.02"], None),
    ],
)
def test_decimal_numbers_that_are_not_in_their_order(tmp_path, names, example):
    (tmp_path / "videos" / "a").mkdir(parents=True)
    for name in names:
        Image.new("RGB", (16, 12)).save(tmp_path / "videos" / "a" / f"{name}.png")
    problems = inspect_videos(_videos(tmp_path / "videos"), sample=1).problems
    start = f"{tmp_path}/videos/a has frames named by decimal numbers of several lengths, such as {example}, but"
    assert len(problems) == (example is not None) and all(problem.startswith(start) for problem in problems)


def test_a_video_without_a_readable_frame(root):
    (root / "c" / "000.png").write_bytes(b"")
    report = inspect_videos(_videos(root))
    assert report.sizes == [(16, 12), (12, 16), (16, 12)] and len(report.problems) == 1


def test_flow(root, tmp_path):
    flow = {count: np.zeros((count - 1, 2, 2, 2), np.float16) for count in (3, 4, 5)}
    write_flow(tmp_path / "flow", "a", flow[5], flow[5], (12, 16), "none")
    write_flow(tmp_path / "flow", "b", flow[3], flow[3], (12, 16), "none")  # frames of b are 16 x 12
    write_flow(tmp_path / "flow", "d", flow[3], flow[3], (12, 16), "none")  # d has four frames
    report = inspect_videos(_videos(root), FlowFiles(tmp_path / "flow"))
    assert report.with_flow == 1
    size, count = report.problems  # none of c, a single frame
    assert "flow/b/forward.npy does not fit the video 'b': it is of frames of 12 x 16 pixels" in size
    assert "flow/d/forward.npy has 2 steps, but the video 'd' has 4 frames" in count
    # The sizes of b, which is not decoded, come from a header.
    report = inspect_videos(_videos(root), FlowFiles(tmp_path / "flow"), sample=2)
    assert report.with_flow == 1 and report.opened == 3 and report.problems == [size, count]


def test_flow_is_compared_with_the_frames_of_every_video(root, tmp_path):
    for name, count, size in (("a", 5, (12, 16)), ("b", 3, (16, 12)), ("d", 4, (12, 16))):
        zeros, mark = np.zeros((count - 1, 2, 2, 2), np.float16), fingerprint(list_frames(str(root / name)))
        write_flow(tmp_path / "flow", name, zeros, zeros, size, "none", mark)
    flow = FlowFiles(tmp_path / "flow")
    assert inspect_videos(_videos(root), flow, sample=1).problems == []
    Image.new("RGB", (12, 16), (7, 8, 9)).save(root / "b" / "002.png")
    report = inspect_videos(_videos(root), flow, sample=1)  # a
    assert report.opened == 2 and report.with_flow == 2
    assert len(report.problems) == 1 and f"it is of other frames than those in {root}/b" in report.problems[0]


def test_frames_that_cannot_be_read_do_not_end_the_check_of_flow(root, tmp_path):
    zeros = np.zeros((3, 2, 2, 2), np.float16)
    write_flow(tmp_path / "flow", "d", zeros, zeros, (12, 16), "none", "00000000")
    (root / "d" / "000.png").unlink()
    (root / "d" / "000.png").symlink_to(tmp_path / "nowhere.png")
    videos = [record for record in _videos(root) if record["video"] in "cd"]
    header, flow = inspect_videos(videos, FlowFiles(tmp_path / "flow"), sample=1).problems
    assert header.startswith(f"unreadable image {root}/d/000.png: FileNotFoundError: ")
    reason = f"{root}/d/000.png cannot be read (No such file or directory)"
    assert flow == f"{root}/d: its flow was not compared, because {reason}"
