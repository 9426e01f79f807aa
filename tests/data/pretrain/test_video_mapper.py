"""From a video to views of two frames: which frames, which flow, in which order; and batches of them."""

import json
import pickle
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from data_helpers import make_cfg, noise
from flow_helpers import Differences
from PIL import Image

from pixpro_d2.data.io.reader import UnreadableImage
from pixpro_d2.data.pretrain.collate import collate
from pixpro_d2.data.pretrain.loader import ViewDataset
from pixpro_d2.data.pretrain.mapper import TwoViewMapper
from pixpro_d2.data.pretrain.video_mapper import VideoMapper
from pixpro_d2.extras.video.extraction import extract
from pixpro_d2.flow_files import FlowFiles, write_flow
from pixpro_d2.flow_files import native as native_files
from pixpro_d2.utils.errors import UsageError

STEP = 20  # grey levels from a frame to the next


@pytest.fixture
def video(tmp_path):
    """Nine frames of 32 x 48 pixels, the i-th of grey level STEP * i."""
    return _write(tmp_path / "video", [np.full((32, 48), STEP * i, np.uint8) for i in range(9)])


def _write(folder, frames):
    folder.mkdir()
    for i, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / f"{i + 1:05d}.png")
    return {"file_name": str(folder), "video": folder.name, "num_frames": len(frames)}


def _image_file(video, number):
    return Path(video["file_name"], f"{number:05d}.png")


class _Flow:
    """Flow whose values tell the frame that a step starts from, in x, and the one that it leads to, in y."""

    def __init__(self, size=(4, 6)):
        self.size = size
        self.checked = []

    def read(self, video, start, steps, num_frames, frame_size, frames=None):
        self.checked.append((video, num_frames, frame_size, frames))
        frames = np.arange(start, start + steps + 1, dtype=np.float16)
        there = np.stack((frames[:-1], frames[1:]), 1)
        arrays = (there, there[::-1, ::-1])
        return tuple(np.broadcast_to(array[:, :, None, None], (*array.shape, *self.size)) for array in arrays)

    def check_range(self, video, pixel_range):
        assert pixel_range == ()


def _mapper(num_frames, aug="none", **options):
    return VideoMapper(make_cfg(INPUT__PIXPRO__AUG=aug), num_frames=num_frames, **options)


def _frames(images):
    """Numbers, from 0, of the frames that (K, 3, H, W) images show."""
    assert (images == images[:, :1, :1, :1]).all()
    return (images[:, 0, 0, 0] / STEP).tolist()


def _samples(mapper, video, count=100):
    return [mapper(video, np.random.default_rng(seed)) for seed in range(count)]


@pytest.mark.parametrize(("num_frames", "starts"), [(1, 9), (2, 8), (6, 4), (9, 1)])
def test_runs_of_frames(video, num_frames, starts):
    # A run of k of n frames starts at 0, ..., n - k; the views show its ends, in the order of time.
    shown = [_frames(sample["views"]) for sample in _samples(_mapper(num_frames), video)]
    assert {first for first, _ in shown} == set(range(starts))
    assert all(second - first == num_frames - 1 for first, second in shown)
    counts = np.bincount([int(first) for first, _ in shown])
    assert counts.min() > 100 / starts / 4  # all of them about as often


def test_sample(video):
    sample = _mapper(3, aug="byol", flow=_Flow())(video, np.random.default_rng(0))
    assert set(sample) == {"views", "boxes", "image_size", "file_name", "flow_there", "flow_back"}
    assert sample["views"].shape == (2, 3, 8, 8) and sample["views"].dtype == np.uint8
    assert sample["boxes"].shape == (2, 4) and not np.array_equal(*sample["boxes"])
    assert sample["image_size"] == (32, 48)
    assert sample["flow_there"].shape == (2, 2, 4, 6) and sample["flow_there"].dtype == np.float16
    assert set(_mapper(3)(video)) == {"views", "boxes", "image_size", "file_name"}


@pytest.mark.parametrize("swap_p", [0.0, 1.0, 0.5])
def test_flow_and_frames_lead_from_the_first_view_to_the_second(video, swap_p):
    mapper = _mapper(4, flow=_Flow(), give_frames=True, swap_p=swap_p)
    swapped = 0
    for sample in _samples(mapper, video):
        run = _frames(sample["frames"])
        assert np.abs(np.diff(run)).tolist() == [1, 1, 1] and len(set(run)) == 4
        assert _frames(sample["views"]) == [run[0], run[-1]]
        assert sample["file_name"] == f"{video['file_name']}/{int(run[0]) + 1:05d}.png"
        assert sample["flow_there"][..., 0, 0].tolist() == [run[i : i + 2] for i in range(3)]
        assert sample["flow_back"][..., 0, 0].tolist() == [[run[i + 1], run[i]] for i in (2, 1, 0)]
        swapped += run[0] > run[-1]
    assert swapped == 100 * swap_p if swap_p != 0.5 else 30 < swapped < 70
    ends = [str(_image_file(video, number)) for number in (1, 9)]  # which are compared once
    assert mapper.flow.checked == [("video", 9, (32, 48), ends)] + [("video", 9, (32, 48), None)] * 99


def test_views_are_those_of_the_two_frames(tmp_path):
    # As if either view were cut by TwoViewMapper, from a generator that has drawn start and order.
    video = _write(tmp_path / "video", [noise(i, 32, 48) for i in range(3)])
    cfg = make_cfg()
    mapper = VideoMapper(cfg, num_frames=3, swap_p=1.0)
    for seed in range(10):
        sample = mapper(video, np.random.default_rng(seed))
        for view, name in ((0, "00003.png"), (1, "00001.png")):  # swapped
            rng = np.random.default_rng(seed)
            rng.integers(1)
            rng.random()
            expected = TwoViewMapper(cfg)({"file_name": f"{video['file_name']}/{name}"}, rng)
            np.testing.assert_array_equal(sample["views"][view], expected["views"][view])
            np.testing.assert_array_equal(sample["boxes"][view], expected["boxes"][view])


def test_one_frame_is_plain_pixpro(tmp_path):
    video = _write(tmp_path / "video", [noise(i, 32, 48) for i in range(3)])
    cfg = make_cfg()
    for seed in range(20):
        # Flow that is set is not touched: an object has no method read.
        mapper = VideoMapper(cfg, num_frames=1, flow=object(), give_frames=True, swap_p=1.0)
        sample = mapper(video, np.random.default_rng(seed))
        rng = np.random.default_rng(seed)
        path = f"{video['file_name']}/{rng.integers(3) + 1:05d}.png"
        expected = TwoViewMapper(cfg)({"file_name": path}, rng)
        assert sample.keys() == expected.keys()
        for key, value in expected.items():
            np.testing.assert_array_equal(sample[key], value, key)


def test_only_the_frames_that_are_needed_are_decoded(video):
    for i in range(2, 9):
        _image_file(video, i).write_text("damaged")
    assert _frames(_mapper(9)(video)["views"]) == [0, 8]
    with pytest.raises(UnreadableImage, match="video/00002.png: not an image"):
        _mapper(9, give_frames=True)(video)
    _image_file(video, 9).write_text("damaged")
    with pytest.raises(UnreadableImage, match="video/00009.png: not an image"):
        _mapper(9)(video)


def test_frames_of_several_sizes(video):
    Image.new("L", (40, 32)).save(_image_file(video, 5))
    assert _mapper(9)(video)["image_size"] == (32, 48)
    for mapper in (_mapper(9, give_frames=True), _mapper(9)):
        with pytest.raises(UnreadableImage, match=r"video: frames of several sizes \(40 x 32, 48 x 32 pixels\)"):
            mapper(video)
        Image.new("L", (40, 32)).save(_image_file(video, 9))


def test_a_folder_that_has_changed(video):
    _image_file(video, 4).unlink()
    with pytest.raises(UnreadableImage, match="video: 8 frames, but 9 when the data set was loaded"):
        _mapper(2)(video)
    with pytest.raises(UnreadableImage, match="none: No such file"):
        _mapper(2)({"file_name": f"{video['file_name']}/none", "video": "none", "num_frames": 9})


def test_the_loader_replaces_a_video(tmp_path, video):
    broken = _write(tmp_path / "broken", [noise(0, 32, 48)] * 2)
    _image_file(broken, 2).write_bytes(b"")
    sample = ViewDataset([broken, video], _mapper(2), seed=0)[0, 0]
    assert sample["file_name"].startswith(f"{video['file_name']}/")
    ((name, message),) = sample["skipped"]
    assert name == broken["file_name"] and "broken/00002.png" in message


def test_flow_is_opened_once(tmp_path, video, monkeypatch):
    flow = np.zeros((8, 2, 4, 6), np.float16)
    write_flow(tmp_path / "flow", "video", flow, flow, (32, 48), "none")
    opened = []
    load = native_files.load
    monkeypatch.setattr(native_files, "load", lambda path: opened.append(Path(path).name) or load(path))
    _mapper(3, flow=FlowFiles(tmp_path / "flow"))(video)
    assert opened == ["forward.npy", "backward.npy"]


def test_flow_files(tmp_path, video):
    flow = np.random.default_rng(0).normal(size=(2, 8, 2, 4, 6)).astype(np.float16)
    for name, size in (("video", (32, 48)), ("other", (64, 96))):
        write_flow(tmp_path / "flow", name, *flow, size, "none")
    mapper = _mapper(3, flow=FlowFiles(tmp_path / "flow"))
    for sample in _samples(mapper, video, 10):
        start = int(_frames(sample["views"])[0])
        np.testing.assert_array_equal(sample["flow_there"], flow[0, start : start + 2])
        np.testing.assert_array_equal(sample["flow_back"], flow[1, [start + 1, start]])
    for name in ("other", "none"):  # of frames of another size, or not there
        with pytest.raises(UsageError, match=f"flow/{name}/"):
            mapper({**video, "video": name})


def _flow_of(root, video, x):
    """Flow of ``x`` pixels to the right, with the fingerprint of the frames of ``video``."""
    mark = native_files.fingerprint([_image_file(video, 1), _image_file(video, video["num_frames"])])
    flow = np.full((video["num_frames"] - 1, 2, 4, 6), x, np.float16)
    write_flow(root, video["video"], flow, -flow, (32, 48), "none", mark)
    return FlowFiles(root)


def test_flow_of_another_video_of_the_same_name_is_refused(tmp_path, video):
    (tmp_path / "other").mkdir()
    other = _write(tmp_path / "other/video", [noise(i, 32, 48) for i in range(9)])
    mapper = _mapper(3, flow=_flow_of(tmp_path / "flow", video, 2))
    assert (mapper(video)["flow_there"] == 2).all()
    message = f"flow/video/forward.npy does not fit the video 'video': it is of other frames .* in {tmp_path}/other/vi"
    for _ in range(2):  # and it stays so
        with pytest.raises(UsageError, match=message):
            mapper(other)
    assert (mapper(video)["flow_there"] == 2).all()


@pytest.mark.parametrize(
    ("used", "own", "words"),
    [
        ((0, 4095), (0, 4095), None),
        ((), (), None),
        ((0, 4095), (), "with --pixel-range 0 4095, but INPUT.PIXEL_RANGE is []: set the same range"),
        ((), (0, 4095), "without --pixel-range, but INPUT.PIXEL_RANGE is [0, 4095]: set the same range"),
    ],
)
def test_flow_of_frames_that_were_read_with_another_range_is_refused(tmp_path, used, own, words):
    (tmp_path / "videos").mkdir()
    video = _write(tmp_path / "videos/video", [np.full((32, 48), 400 * i, np.uint16) for i in range(9)])
    extract(str(tmp_path / "videos"), str(tmp_path / "flow"), Differences(), pixel_range=used)
    mapper = _mapper(2, flow=FlowFiles(tmp_path / "flow"), pixel_range=own)
    if words:
        with pytest.raises(UsageError, match=re.escape(f"flow/video has flow of frames that were read {words}")):
            mapper(video)
        path = tmp_path / "flow/video/flow.json"  # as an older version wrote it
        path.write_text(json.dumps({key: x for key, x in json.loads(path.read_text()).items() if key != "pixel_range"}))
    mapper(video)


def test_frames_of_8_bits_have_the_same_flow_for_every_range(tmp_path):
    (tmp_path / "videos").mkdir()
    video = _write(tmp_path / "videos/video", [np.full((32, 48), i, np.uint8) for i in range(9)])
    extract(str(tmp_path / "videos"), str(tmp_path / "flow"), Differences())
    flow = FlowFiles(tmp_path / "flow")
    of_range, plain = (_mapper(2, flow=flow, pixel_range=x)(video, np.random.default_rng(0)) for x in ((0, 4095), ()))
    np.testing.assert_array_equal(of_range["flow_there"], plain["flow_there"])


@pytest.mark.parametrize("number", [1, 9])
def test_a_frame_that_broke_later_makes_a_video_unreadable_and_its_flow_no_mistake(tmp_path, video, number):
    mapper = _mapper(2, flow=_flow_of(tmp_path / "flow", video, 0))
    _image_file(video, number).write_bytes(b"damaged")
    with pytest.raises(UnreadableImage, match=f"video/0000{number}.png: not an image"):
        mapper(video, np.random.default_rng(0))  # a run from the frames in the middle
    _image_file(video, number).unlink()
    _image_file(video, number).symlink_to(tmp_path / "away")
    with pytest.raises(UnreadableImage, match="/video: No such file or directory"):
        mapper(video, np.random.default_rng(0))


def test_frames_are_compared_once_in_a_process(tmp_path, video):
    mapper = _mapper(2, flow=_flow_of(tmp_path / "flow", video, 0))
    mapper(video)
    _image_file(video, 9).write_bytes(b"damaged")
    mapper(video, np.random.default_rng(0))
    with pytest.raises(UnreadableImage, match="00009.png"):
        pickle.loads(pickle.dumps(_mapper(2, flow=mapper.flow)))(video, np.random.default_rng(0))


def _sample(height, width, flow_size, value):
    """Sample of two steps of flow and three frames; ``value`` makes it its own."""
    rng = np.random.default_rng(value)
    return {
        "views": np.full((2, 3, 8, 8), value, np.uint8),
        "boxes": np.full((2, 4), value, np.float32),
        "image_size": (height, width),
        "file_name": str(value),
        "flow_there": rng.normal(size=(2, 2, *flow_size)).astype(np.float16),
        "flow_back": rng.normal(size=(2, 2, *flow_size)).astype(np.float16),
        "frames": rng.integers(0, 256, (3, 3, height, width), dtype=np.uint8),
    }


def _padded(array, height, width):
    """Every pixel of the larger array, by the nearest one of ``array``."""
    rows, columns = (
        np.minimum(np.arange(height), array.shape[-2] - 1),
        np.minimum(np.arange(width), array.shape[-1] - 1),
    )
    return array[..., rows, :][..., columns]


@pytest.mark.parametrize(
    "sizes",
    [
        [((16, 24), (2, 3)), ((16, 24), (2, 3))],  # height, width of frames and flow
        [((16, 24), (2, 3)), ((24, 16), (3, 2))],  # portrait: either side is padded
        [((16, 24), (2, 3)), ((24, 32), (6, 8)), ((16, 24), (4, 6))],  # flow at 1/8 and 1/4
    ],
)
def test_batches(sizes):
    samples = [_sample(*frame, flow, value) for value, (frame, flow) in enumerate(sizes)]
    batch = collate(samples)
    assert batch["views"].shape == (len(sizes), 2, 3, 8, 8) and batch["file_names"] == list("012")[: len(sizes)]
    assert batch["image_sizes"].tolist() == [list(frame) for frame, _ in sizes]
    assert batch["flow_sizes"].tolist() == [list(flow) for _, flow in sizes]
    assert batch["flow_sizes"].dtype == torch.int64
    largest = {"frames": np.max([frame for frame, _ in sizes], 0), "flow": np.max([flow for _, flow in sizes], 0)}
    for key, dtype in (("flow_there", torch.float16), ("flow_back", torch.float16), ("frames", torch.uint8)):
        assert batch[key].dtype == dtype
        side = largest[key.split("_")[0]]
        assert batch[key].shape[-2:] == tuple(side)
        for row, sample in zip(batch[key], samples):
            np.testing.assert_array_equal(row, _padded(sample[key], *side))


def test_batches_without_flow():
    keys = ("views", "boxes", "image_size", "file_name")
    batch = collate([{key: _sample(16, 24, (2, 3), i)[key] for key in keys} for i in range(2)])
    assert set(batch) == {"views", "boxes", "image_sizes", "file_names"}
