"""The command line, and its pictures of positive pairs and optical flow."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from archive_helpers import write_shards
from detectron2.modeling import build_backbone
from flow_helpers import write_plain_frames
from PIL import Image
from rendering import render_once

import configs
from pixpro_d2.data.io.reader import read_image
from pixpro_d2.engine.configuration.configure import load_config
from pixpro_d2.extras.scenes.video_scene import render_clip
from pixpro_d2.extras.scenes.writers.video import write_frames
from pixpro_d2.flow_files import write_flow
from pixpro_d2.tools import visualize
from pixpro_d2.tools.visualize import data_pictures
from pixpro_d2.visualization import motion, pairs
from pixpro_d2.visualization.views import ViewSource

CONFIG = str(configs.CONFIGS / "pretrain/quickstart.yaml")
VIDEO_CONFIG = str(configs.CONFIGS / "pretrain/pixpro_video_quickstart.yaml")
HEIGHT, WIDTH = 64, 96

scenes = render_once(train=3, test=0, size=64, layouts=("voc",))


@pytest.fixture(scope="module")
def clip():
    return render_clip(np.random.default_rng(0), 8, HEIGHT, WIDTH)


@pytest.fixture(scope="module")
def videos(clip, tmp_path_factory):
    """Folder of the videos ``long``, of 8 frames, and ``short``, of 2, and of the exact flow of the first."""
    out = tmp_path_factory.mktemp("visualize_videos")
    write_frames(out / "videos/long", clip)
    write_plain_frames(out / "videos/short", [10, 20], (HEIGHT, WIDTH))
    write_flow(out / "flow", "long", clip.forward, clip.backward, (HEIGHT, WIDTH), "exact")
    return out


def video_config(videos, *opts):
    opts = ["MODEL.DEVICE", "cpu", "MODEL.PIXPRO.FLOW.FILES", str(videos / "flow"), *opts]
    return load_config(VIDEO_CONFIG, opts)


def seen_by(monkeypatch, module, draw, picture, *args):
    """Arguments that the function ``draw`` of a module is called with while ``picture(*args)`` is made."""
    seen = []
    monkeypatch.setattr(module, draw, lambda *args, **kwargs: seen.extend([*args, *kwargs.values()]))
    picture(*args)
    return seen


def draw_pairs(dataset_dict, cfg, level, rng):
    """As the sub-command draws one picture."""
    cfg.MODEL.DEVICE = "cpu"
    source = ViewSource(cfg)
    return pairs.picture_pairs(source, dataset_dict, source.mapper(dataset_dict, rng), pairs.stride_of(level))


def long_video(videos):
    return {"file_name": str(videos / "videos/long"), "video": "long", "num_frames": 8}


R50 = ["MODEL.BACKBONE.NAME", "build_resnet_backbone", "MODEL.RESNETS.DEPTH", 50, *configs.NARROW]
DEEPLAB = ["MODEL.BACKBONE.NAME", "build_resnet_deeplab_backbone", "MODEL.RESNETS.DEPTH", 50]
TIMM = ["MODEL.BACKBONE.NAME", "build_timm_backbone", "MODEL.TIMM.NAME", "resnet10t"]


@pytest.mark.parametrize(
    ("opts", "levels"),
    [
        ([], ("p3", "p6")),
        ([*R50, "MODEL.RESNETS.RES5_DILATION", 2], ("res4", "res5")),
        ([*DEEPLAB, "MODEL.RESNETS.RES4_DILATION", 2, "MODEL.RESNETS.RES5_DILATION", 4], ("res4", "res5")),
        ([*TIMM, "MODEL.TIMM.OUTPUT_STRIDE", 16], ("res3", "res5")),
    ],
    ids=["pyramid", "dilated", "DeepLab", "timm"],
)
def test_the_grid_of_the_picture_is_that_of_the_model(opts, levels):
    features = ["MODEL.RESNETS.OUT_FEATURES", levels, "MODEL.TIMM.OUT_FEATURES", levels] if opts else []
    cfg = configs.tiny(*opts, *features)
    shapes = build_backbone(cfg).output_shape()
    assert [data_pictures.stride(cfg, level) for level in levels] == [shapes[level].stride for level in levels]


def test_one_picture_for_each_image(scenes, tmp_path, capsys):
    visualize.main(
        ["pairs", "--config-file", CONFIG, "--input", str(scenes), "--output", str(tmp_path), "--count", "2"]
    )
    paths = capsys.readouterr().out.split()
    assert [p.split("/")[-1] for p in paths] == ["pairs_000_000000.png", "pairs_001_000001.png"]
    assert all(Image.open(path).width == 1200 for path in paths)


def test_images_in_shards(scenes, tmp_path, capsys):
    pattern = write_shards(tmp_path / "shards", scenes / "JPEGImages", 2)
    args = ["--input", pattern, "--output", str(tmp_path), "--count", "2"]
    visualize.main(["pairs", "--config-file", CONFIG, *args])
    names = [path.split("/")[-1] for path in capsys.readouterr().out.split()]
    assert names == ["pairs_000_000000.png", "pairs_001_000001.png"]


def test_a_seed_gives_the_same_picture_again(scenes, tmp_path, capsys):
    def picture(seed):
        folder = tmp_path / str(seed)
        args = ["--input", str(scenes / "JPEGImages/000001.jpg"), "--output", str(folder), "--seed", str(seed)]
        visualize.main(["pairs", "--config-file", CONFIG, *args])
        (path,) = capsys.readouterr().out.split()
        return np.asarray(Image.open(path))

    first = picture(1)
    assert np.array_equal(first, picture(1))
    assert not np.array_equal(first, picture(2))


def test_data_set_and_options_of_the_config(scenes, tmp_path, capsys):
    opts = ["DATASETS.TRAIN", f"('voc:{scenes}@train',)", "INPUT.FORMAT", "BGR", "INPUT.PIXPRO.CROP_SIZE", "64"]
    visualize.main(["pairs", "--config-file", CONFIG, "--output", str(tmp_path), "--level", "p4", *opts])
    assert len(capsys.readouterr().out.split()) == 3


@pytest.mark.parametrize("level, crop, grid", [("p3", 96, 12), ("p5", 100, 4), ("p6", 96, 2), ("s4", 64, 2)])
def test_grid_of_a_level(scenes, monkeypatch, level, crop, grid):
    cfg = load_config(CONFIG, ["INPUT.PIXPRO.CROP_SIZE", crop, "MODEL.PIXPRO.POS_RATIO", 0.6])
    args = ({"file_name": str(scenes / "JPEGImages/000000.jpg")}, cfg, level, np.random.default_rng(0))
    seen = seen_by(monkeypatch, pairs, "draw_correspondences", draw_pairs, *args)
    _, views, boxes, positives, grids, caption = seen
    assert grids == ((grid, grid), (grid, grid))
    assert positives.shape == (grid**2, grid**2)
    assert [view.size for view in views] == [(crop, crop)] * 2 and boxes.shape == (2, 4)
    pattern = rf"{positives.sum()} positive pairs? on a {grid} x {grid} grid at threshold 0.6; "
    assert re.match(pattern, caption)


@pytest.mark.parametrize("image_format, mean", [("RGB", [0] * 3), ("BGR", [0] * 3), ("L", [0])])
def test_views_are_shown_in_their_colours(scenes, monkeypatch, image_format, mean):
    """With the whole image as both views, their pixels are the image's."""
    opts = ["INPUT.FORMAT", image_format, "MODEL.PIXEL_MEAN", mean, "INPUT.PIXPRO.AUG", "none"]
    opts += ["MODEL.PIXEL_STD", [50.0] * len(mean)]
    opts += ["INPUT.PIXPRO.MIN_SCALE", 0.99, "INPUT.PIXPRO.CROP_SIZE", 64]
    file_name = str(scenes / "JPEGImages/000000.jpg")
    args = ({"file_name": file_name}, load_config(CONFIG, opts), "p3", np.random.default_rng(0))
    seen = seen_by(monkeypatch, pairs, "draw_correspondences", draw_pairs, *args)
    image = read_image(file_name)
    expected = np.asarray(image if image_format != "L" else image.convert("L").convert("RGB")).mean(axis=(0, 1))
    np.testing.assert_allclose(np.asarray(seen[1][0]).mean(axis=(0, 1)), expected, atol=2)


def test_unreadable_images_are_skipped(scenes, tmp_path, capsys):
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / "a.jpg").write_text("not an image")
    Image.open(scenes / "JPEGImages/000000.jpg").save(folder / "b.png")
    args = ["pairs", "--config-file", CONFIG, "--output", str(tmp_path / "out"), "--count", "1", "--input"]
    visualize.main([*args, str(folder)])
    out, err = capsys.readouterr()
    assert out.split() == [str(tmp_path / "out/pairs_001_b.png")]
    assert err.startswith("skipped") and "a.jpg" in err
    with pytest.raises(SystemExit, match="error: No image could be read, the last one is .*a.jpg"):
        visualize.main([*args, str(folder / "a.jpg")])


def test_augmentation_on_the_device_of_the_model_looks_the_same(scenes, monkeypatch):
    def views(device):
        cfg = load_config(CONFIG, ["INPUT.FORMAT", "BGR", "INPUT.AUG_DEVICE", device])
        args = ({"file_name": str(scenes / "JPEGImages/000000.jpg")}, cfg, "p3", np.random.default_rng(0))
        return list(map(np.asarray, seen_by(monkeypatch, pairs, "draw_correspondences", draw_pairs, *args)[1]))

    np.testing.assert_array_equal(views("model"), views("cpu"))


@pytest.mark.parametrize("files", [True, False])
def test_flow_of_as_many_runs_as_wanted(videos, files, tmp_path, capsys):
    opts = ["MODEL.PIXPRO.FLOW.FILES", str(videos / "flow") if files else "", "INPUT.PIXPRO.N_FRAMES", "3"]
    args = ["--input", str(videos / "videos"), "--output", str(tmp_path), "--count", "2"]
    visualize.main(["flow", "--config-file", VIDEO_CONFIG, *args, *opts])
    paths = capsys.readouterr().out.split()
    assert [path.split("/")[-1] for path in paths] == ["flow_000_long.png", "flow_001_long.png"]
    pictures = [np.asarray(Image.open(path)) for path in paths]
    # Three rows of frames of 580 x 387 pixels with a title each, and at least three lines of text.
    assert all(picture.shape[1] == 1220 and picture.shape[0] > 3 * 409 + 66 for picture in pictures)
    assert pictures[0].shape != pictures[1].shape or (pictures[0] != pictures[1]).any()  # another run


def test_points_end_where_the_rendered_scene_says(videos, clip, monkeypatch):
    for seed in range(3):
        rng = np.random.default_rng(seed)
        cfg = video_config(videos, "INPUT.PIXPRO.SWAP_P", 1.0)
        source, video = ViewSource(cfg), long_video(videos)
        args = source, video, source.mapper(video, rng)
        seen = seen_by(monkeypatch, motion, "draw_flow", motion.picture_flow, *args)
        frames, names, pixels, points, steps, title = seen
        start, end = (int(Path(name).stem) - 1 for name in names)
        assert steps == 5 and end == start + 5  # the earlier one first, although training would swap them
        assert title == "long, flow out of files"
        for number, frame in zip((start, end), frames):
            differences = [np.abs(np.asarray(frame) - other.astype(int)).mean() for other in clip.frames]
            assert np.argmin(differences) == number
        assert len(pixels.starts) == HEIGHT * WIDTH and len(points.starts) == 14 * 9
        for tracks in (pixels, points):
            ends, visible, along = clip.scene.track(tracks.starts, start, end)
            errors = np.linalg.norm(tracks.ends - ends, axis=1)
            assert np.linalg.norm(ends - tracks.starts, axis=1).mean() > 1  # of which a forgotten step is a fifth
            # Half precision, and exact flow that is smooth but for the outlines of objects.
            assert np.median(errors[tracks.valid]) < 0.02
            assert (errors[tracks.valid] < 0.5).mean() > 0.97
            assert tracks.valid[along].mean() > 0.9 and tracks.valid[~visible].mean() < 0.3


def test_pairs_of_frames_are_those_of_training(videos, monkeypatch):
    cfg = video_config(videos)
    rngs = [np.random.default_rng(seed) for seed in range(6)]
    found = 0
    for rng in rngs:
        args = (long_video(videos), cfg, "p3", rng)
        seen = seen_by(monkeypatch, pairs, "draw_video_pairs", draw_pairs, *args)
        frames, names, views, boxes, tracks, positives, grids, caption = seen
        assert len(frames) == 2 and [view.size for view in views] == [(96, 96)] * 2 and grids == ((12, 12), (12, 12))
        assert int(Path(names[1]).stem) == int(Path(names[0]).stem) + 5
        # Pairs by hand: less than 0.7 of the longer diagonal from where the flow moves a bin to the other's centre.
        steps = (np.arange(12) + 0.5) / 12
        x, y = (boxes[1, i] + (boxes[1, i + 2] - boxes[1, i]) * steps for i in (0, 1))
        centers = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
        distances = np.linalg.norm(tracks.ends[:, None] - centers, axis=-1)
        limit = 0.7 * max(np.hypot(box[2] - box[0], box[3] - box[1]) / 12 for box in boxes)
        undecided = np.abs(distances - limit) < 1e-3
        expected = (distances < limit) & tracks.valid[:, None]
        assert (positives == expected)[~undecided].all()
        assert caption.startswith(f"{positives.sum()} positive pair") and "view 1's bins" in caption
        found += positives.sum()
    assert found > 100


def test_pairs_of_videos_are_drawn(videos, tmp_path, capsys):
    args = ["--output", str(tmp_path), "--count", "1", "--input", str(videos / "videos")]
    opts = ["MODEL.PIXPRO.FLOW.FILES", str(videos / "flow")]
    pictures = []
    for more in (opts, ["INPUT.PIXPRO.N_FRAMES", "1"]):
        visualize.main(["pairs", "--config-file", VIDEO_CONFIG, *args, *more])
        pictures.append(Image.open(tmp_path / "pairs_000_long.png").copy())
    paths = capsys.readouterr().out.split()
    assert [Path(path).name for path in paths] == ["pairs_000_long.png"] * 2
    assert pictures[0].size == (1200, 20 + 22 + 380 + 20 + 22 + 400 + 20)  # frames of 570 x 380 pixels above the views
    assert pictures[1].size[0] == 1200 and pictures[1].size[1] < 600  # one frame beside the views


def test_a_single_frame_gives_the_picture_of_an_image(videos, monkeypatch):
    cfg = video_config(videos, "INPUT.PIXPRO.N_FRAMES", 1)
    args = (long_video(videos), cfg, "p3", np.random.default_rng(0))
    image, *_, grids, _ = seen_by(monkeypatch, pairs, "draw_correspondences", draw_pairs, *args)
    assert image.size == (WIDTH, HEIGHT) and grids == ((12, 12), (12, 12))


def test_data_sets_are_shown_as_their_folders_are(scenes, videos, tmp_path):
    for config, kind, folder in ((CONFIG, "images", scenes), (VIDEO_CONFIG, "video", videos / "videos")):
        outputs = [tmp_path / kind / name for name in ("folder", "data_set")]
        for output, place in zip(outputs, (folder, f"{kind}:{folder}")):
            opts = ["MODEL.PIXPRO.FLOW.FILES", str(videos / "flow")] if kind == "video" else []
            words = ["--input", str(place), "--output", str(output), "--count", "1", *opts]
            visualize.main(["pairs", "--config-file", config, *words])
        (first,), (second,) = (list(output.iterdir()) for output in outputs)
        assert first.name == second.name and first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize("command", ["flow", "pairs"])
@pytest.mark.parametrize(
    "folder, count, opts, message",
    [
        ("videos/long", 1, [], "error: Data set 'video:.*long': no sub-folder of .*long has frames of a video"),
        ("nowhere", 1, [], "error: There is no image or folder .*nowhere"),
        ("videos", 1, ["INPUT.PIXPRO.N_FRAMES", "9"], "error: None of 2 videos has 9 frames, the longest has 8"),
        (
            "videos",
            1,
            ["MODEL.PIXPRO.FLOW.FILES", "elsewhere"],
            "error: There is no folder of optical flow .*elsewhere",
        ),
        (
            "videos",
            2,
            ["INPUT.PIXPRO.N_FRAMES", "2"],
            "error: 1 of . videos have no optical flow in .*, the first is .short.: make it",
        ),
    ],
)
def test_mistakes_with_videos_are_one_line(videos, tmp_path, command, folder, count, opts, message):
    args = ["--input", str(videos / folder), "--output", str(tmp_path), "--count", str(count)]
    files = [] if "MODEL.PIXPRO.FLOW.FILES" in opts else ["MODEL.PIXPRO.FLOW.FILES", str(videos / "flow")]
    with pytest.raises(SystemExit, match=message) as info:
        visualize.main([command, "--config-file", VIDEO_CONFIG, *args, *files, *opts])
    assert "\n" not in str(info.value)


@pytest.mark.parametrize("n_frames", [0, 1])
def test_flow_needs_two_frames(videos, n_frames):
    args = ["flow", "--config-file", VIDEO_CONFIG, "--input", str(videos / "videos"), "INPUT.PIXPRO.N_FRAMES"]
    with pytest.raises(SystemExit, match=f"error: INPUT.PIXPRO.N_FRAMES is {n_frames}, but flow is between 2 frames"):
        visualize.main([*args, str(n_frames)])


@pytest.mark.parametrize(
    "args, message",
    [
        (["--level", "p9"], "error: There is no level 'p9'"),
        (["--input", "nowhere"], "error: There is no image or folder .*nowhere"),
        (["MODEL.PIXPRO.TAU", "1"], "error: There is no config key 'MODEL.PIXPRO.TAU'"),
        (["INPUT.PIXPRO.MIN_SCALE", "2.0"], "error: INPUT.PIXPRO.MIN_SCALE is 2.0"),
    ],
)
def test_mistakes_are_one_line(scenes, tmp_path, args, message):
    words = ["pairs", "--config-file", CONFIG, "--output", str(tmp_path)]
    words += args if args[0] == "--input" else ["--input", str(scenes), *args]
    with pytest.raises(SystemExit, match=message) as info:
        visualize.main(words)
    assert "\n" not in str(info.value)


@pytest.mark.parametrize("args", [[], ["paint"], ["pairs"], ["pairs", "--config-file", CONFIG, "--count", "0"]])
def test_wrong_usage(args, capsys):
    with pytest.raises(SystemExit) as info:
        visualize.main(args)
    assert info.value.code == 2 and "usage:" in capsys.readouterr().err


def test_runs_as_a_module(tmp_path):
    command = [sys.executable, "-W", "error::RuntimeWarning", "-m", "pixpro_d2.tools.visualize", "features", "--help"]
    assert "--weights" in subprocess.run(command, capture_output=True, text=True, check=True).stdout
