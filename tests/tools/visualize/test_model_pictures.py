"""The sub-commands that show what a pre-training model makes of views."""

import numpy as np
import pytest
import torch
from PIL import Image

import configs
from pixpro_d2.checkpoint import PixProCheckpointer
from pixpro_d2.data.reader import read_image
from pixpro_d2.engine.trainer import Trainer
from pixpro_d2.tools import visualize
from pixpro_d2.tools.render import render_dataset
from pixpro_d2.tools.visualize import model_pictures
from pixpro_d2.visualization import comparisons

CONFIG = str(configs.CONFIGS / "pretrain/quickstart.yaml")
DETECTOR = "voc/faster_rcnn_R_18_FPN_small.yaml"


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    out = tmp_path_factory.mktemp("model_pictures") / "scenes"
    render_dataset(out, train=2, test=0, size=64, layouts=("voc",))
    return out


TINY = list(map(str, configs.TINY))
SMALL = ["MODEL.RESNETS.DEPTH", "18", "MODEL.RESNETS.RES2_OUT_CHANNELS", "64"]
C5 = ["--config-file", str(configs.CONFIGS / "pretrain/pixpro_c5_100ep.yaml")]


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A checkpoint of random weights, by another seed than the tool's."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(5)
    model = Trainer.build_model(configs.tiny())
    PixProCheckpointer(model, str(folder)).save("model_final")
    return str(folder / "model_final.pth")


def pictures(command, scenes, folder, *args, opts=()):
    """Arrays of the pictures that a sub-command writes, by name."""
    words = [command, "--config-file", CONFIG, "--input", str(scenes / "JPEGImages"), "--output", str(folder)]
    visualize.main([*words, *args, *TINY, *opts])
    return {path.name: np.asarray(Image.open(path)) for path in sorted(folder.iterdir())}


@pytest.mark.parametrize(
    "command, names",
    [
        ("attention", ["attention_000_000000.png", "attention_001_000001.png"]),
        ("features", ["features.png"]),
        ("matches", ["matches_000_000000.png", "matches_001_000001.png"]),
    ],
)
def test_pictures_of_a_model(scenes, weights, tmp_path, command, names):
    found = pictures(command, scenes, tmp_path / "random", "--count", "2")
    assert list(found) == names
    assert all(picture.shape[1] <= 1200 for picture in found.values())
    again = pictures(command, scenes, tmp_path / "again", "--count", "2")
    assert all(np.array_equal(found[name], again[name]) for name in names)


def test_weights_are_loaded_and_named(scenes, weights, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(comparisons, "draw_attention", lambda view, maps, note: seen.append((note, maps["p3"])) or view)
    for args in ([], ["--weights", weights]):
        pictures("attention", scenes, tmp_path, "--count", "1", *args)
    (random, (pixels, maps)), (trained, (same, others)) = seen
    assert random == "Random weights" and trained == f"Weights {weights}" and pixels == same
    assert np.abs(maps - others).max() > 0.1


def test_one_level_of_several(scenes, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(comparisons, "draw_attention", lambda view, maps, note: seen.append(maps) or view)
    pictures("attention", scenes, tmp_path, "--count", "1", "--level", "p4")
    pictures("attention", scenes, tmp_path, "--count", "1")
    assert [list(maps) for maps in seen] == [["p4"], ["p3", "p4", "p5"]]  # p6 of views of 64 pixels is a single one
    np.testing.assert_array_equal(seen[0]["p4"][1], seen[1]["p4"][1])


def test_a_model_is_shown_what_it_is_trained_on_or_clean_views(scenes, tmp_path, monkeypatch):
    """Attention and features of the crops as they are, matches under the augmentation; of the same crops."""
    seen = {}

    def spy(model, samples):
        seen[command] = samples
        return original(model, samples)

    original = model_pictures.compare_views
    monkeypatch.setattr(model_pictures, "compare_views", spy)
    for command in ("attention", "features", "matches"):
        pictures(command, scenes, tmp_path, "--count", "1")
    (clean,), (also,), (augmented,) = (seen[command] for command in ("attention", "features", "matches"))
    np.testing.assert_array_equal(clean["views"], also["views"])
    np.testing.assert_array_equal(clean["boxes"], augmented["boxes"])
    assert not np.array_equal(clean["views"], augmented["views"])
    image = read_image(clean["file_name"])
    x0, y0, x1, y1 = clean["boxes"][0]
    crop = image.crop((min(x0, x1), y0, max(x0, x1), y1)).resize((64, 64), Image.Resampling.BILINEAR)
    crop = np.asarray(crop)[:, ::-1] if x0 > x1 else np.asarray(crop)
    assert np.abs(clean["views"][0].transpose(1, 2, 0).astype(int) - crop).mean() < 2


@pytest.mark.parametrize(
    "command, args, message",
    [
        ("attention", [*C5, *SMALL, "MODEL.PIXPRO.PPM.ENABLED", "False"], "has no pixel propagation module"),
        (
            "features",
            ["--level", "p7", "--config-file", CONFIG],
            "no level 'p7' in .*: choose from p3, p4",
        ),
        ("matches", ["--level", "p6", "--config-file", CONFIG], "Level p6 has a single pixel for views of 64 pixels"),
        ("matches", ["--weights", "nowhere.pth", "--config-file", CONFIG], "There is no checkpoint .*nowhere.pth"),
        (
            "features",
            [*C5, *SMALL, "MODEL.PIXPRO.IN_FEATURES", "[]"],
            "has no pixel-level pre-training, which `fea",
        ),
        (
            "pairs",
            ["--config-file", str(configs.CONFIGS / "voc/faster_rcnn_R_18_FPN_small.yaml")],
            "has no pixel-level",
        ),
    ],
)
def test_mistakes_with_models_are_one_line(scenes, tmp_path, command, args, message):
    words = [arg for arg in args if arg.startswith("--") or args[args.index(arg) - 1].startswith("--")]
    opts = [arg for arg in args if arg not in words]
    tiny = [] if command == "pairs" else TINY
    words = [command, *words, "--input", str(scenes), "--output", str(tmp_path), *tiny, *opts]
    with pytest.raises(SystemExit, match=f"error: .*{message}") as info:
        visualize.main(words)
    assert "\n" not in str(info.value) and not list(tmp_path.iterdir())
