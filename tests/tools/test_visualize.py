"""The command line that draws positive pairs."""

import re

import numpy as np
import pytest
from PIL import Image

import configs
from pixpro_d2.data.reader import read_image
from pixpro_d2.engine.configure import load_config
from pixpro_d2.errors import UsageError
from pixpro_d2.tools import visualize
from pixpro_d2.tools.render import render_dataset

CONFIG = str(configs.CONFIGS / "pretrain/quickstart.yaml")


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    out = tmp_path_factory.mktemp("visualize") / "scenes"
    render_dataset(out, train=3, test=0, size=64, layouts=("voc",))
    return out


def test_one_picture_for_each_image(scenes, tmp_path, capsys):
    visualize.main(
        ["pairs", "--config-file", CONFIG, "--input", str(scenes), "--output", str(tmp_path), "--count", "2"]
    )
    paths = capsys.readouterr().out.split()
    assert [p.split("/")[-1] for p in paths] == ["pairs_000_000000.png", "pairs_001_000001.png"]
    assert all(Image.open(path).width == 1200 for path in paths)


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
    seen = {}
    monkeypatch.setattr(visualize, "draw_correspondences", lambda *args, **kwargs: seen.update(args=args, **kwargs))
    cfg = load_config(CONFIG, ["INPUT.PIXPRO.CROP_SIZE", crop, "MODEL.PIXPRO.POS_RATIO", 0.6])
    visualize.draw_sample({"file_name": str(scenes / "JPEGImages/000000.jpg")}, cfg, level, np.random.default_rng(0))
    _, views, boxes, positives, grids = seen["args"]
    assert grids == ((grid, grid), (grid, grid))
    assert positives.shape == (grid**2, grid**2)
    assert views.shape == (2, 3, crop, crop) and boxes.shape == (2, 4)
    pattern = rf"{positives.sum()} positive pairs? on a {grid} x {grid} grid at threshold 0.6; "
    assert re.match(pattern, seen["caption"])


@pytest.mark.parametrize("image_format, mean", [("RGB", [0] * 3), ("BGR", [0] * 3), ("L", [0])])
def test_views_are_shown_in_their_colours(scenes, monkeypatch, image_format, mean):
    """With the whole image as both views, their pixels are the image's."""
    seen = {}
    monkeypatch.setattr(visualize, "draw_correspondences", lambda *args, **kwargs: seen.update(args=args))
    opts = ["INPUT.FORMAT", image_format, "MODEL.PIXEL_MEAN", mean, "INPUT.PIXPRO.AUG", "none"]
    opts += ["INPUT.PIXPRO.MIN_SCALE", 0.99, "INPUT.PIXPRO.CROP_SIZE", 64]
    file_name = str(scenes / "JPEGImages/000000.jpg")
    visualize.draw_sample({"file_name": file_name}, load_config(CONFIG, opts), "p3", np.random.default_rng(0))
    image = read_image(file_name)
    expected = np.asarray(image if image_format != "L" else image.convert("L").convert("RGB")).mean(axis=(0, 1))
    np.testing.assert_allclose(np.broadcast_to(seen["args"][1][0].mean(axis=(1, 2)), 3), expected, atol=2)


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


@pytest.mark.parametrize(
    "args, message",
    [
        (["--level", "p9"], "error: There is no level 'p9'"),
        (["--input", "nowhere"], "error: No image file"),
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


def test_draw_sample_raises_for_an_unknown_level(scenes):
    with pytest.raises(UsageError, match="choose from res2"):
        visualize.draw_sample({"file_name": "any"}, load_config(CONFIG, []), "c5", np.random.default_rng(0))
