"""The sub-commands that show what a pre-training model makes of views."""

import numpy as np
import pytest
import torch
from PIL import Image
from rendering import render_once

import configs
from pixpro_d2.checkpoint import PixProCheckpointer
from pixpro_d2.data.io.reader import read_image
from pixpro_d2.engine.trainer import Trainer
from pixpro_d2.tools import visualize
from pixpro_d2.tools.visualize import model_pictures
from pixpro_d2.visualization import comparisons

CONFIG = str(configs.CONFIGS / "pretrain/quickstart.yaml")
DETECTOR = "voc/faster_rcnn_R_18_FPN_small.yaml"

scenes = render_once(train=2, test=0, size=64, layouts=("voc",))


TINY = list(map(str, configs.TINY))
SMALL = ["MODEL.RESNETS.DEPTH", "18", "MODEL.RESNETS.RES2_OUT_CHANNELS", "64"]
C5 = ["--config-file", str(configs.CONFIGS / "pretrain/pixpro_c5_100ep.yaml")]


def backbone_only(folder, state):
    """The file of a converted backbone, from the state dict of a model."""
    path = folder / "backbone.pth"
    torch.save({"model": {name: x for name, x in state.items() if name.startswith("backbone.")}}, path)
    return str(path)


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


def test_weights_of_the_config(scenes, weights, tmp_path):
    named = pictures("matches", scenes, tmp_path / "named", "--count", "1", "--weights", weights)
    option = pictures("matches", scenes, tmp_path / "option", "--count", "1", opts=["MODEL.WEIGHTS", weights])
    assert all(np.array_equal(named[name], option[name]) for name in named)


def test_a_backbone_has_a_copy_of_itself_for_a_target(scenes, tmp_path, monkeypatch):
    path = backbone_only(tmp_path, Trainer.build_model(configs.tiny()).state_dict())
    seen = []
    monkeypatch.setattr(
        comparisons, "draw_features", lambda views, levels, notes: seen.append((levels, notes)) or views[0]
    )
    pictures("features", scenes, tmp_path / "out", "--count", "1", "--weights", path)
    ((levels, notes),) = seen
    for online, target in levels.values():
        np.testing.assert_allclose(online, target, atol=1e-5)  # random weights of its own would give other features
    assert notes[0].startswith(f"Weights {path}, with random projector and ppm, no target branch in the file. ")


def test_a_whole_checkpoint_keeps_its_target(scenes, tmp_path, monkeypatch):
    model = Trainer.build_model(configs.tiny())
    with torch.no_grad():
        model.target_backbone.bottom_up.res5[0].conv1.weight.mul_(-1)
    PixProCheckpointer(model, str(tmp_path)).save("model_final")
    path = str(tmp_path / "model_final.pth")
    seen = []
    monkeypatch.setattr(
        comparisons, "draw_features", lambda views, levels, notes: seen.append((levels, notes)) or views[0]
    )
    pictures("features", scenes, tmp_path / "out", "--count", "1", "--weights", path)
    ((levels, notes),) = seen
    assert np.abs(levels["p5"][0] - levels["p5"][1]).max() > 0.01
    assert notes[0].startswith(f"Weights {path}. ")


def test_attention_of_random_parts_is_refused(scenes, tmp_path):
    path = backbone_only(tmp_path, Trainer.build_model(configs.tiny()).state_dict())
    with pytest.raises(SystemExit, match="error: .*backbone.pth has no projector and no ppm that fits") as info:
        pictures("attention", scenes, tmp_path / "out", "--count", "1", "--weights", path)
    assert "\n" not in str(info.value)
    pictures("matches", scenes, tmp_path / "out", "--count", "1", "--weights", path)  # of the backbone's features


def test_another_input_than_the_weights_were_trained_with_is_refused(scenes, tmp_path):
    cfg = configs.tiny()
    Trainer.build_checkpointer(with_output(cfg, tmp_path), Trainer.build_model(cfg)).save("model_final")
    args = "--count", "1", "--weights", str(tmp_path / "model_final.pth")
    with pytest.raises(SystemExit, match="error: .* was trained with RGB .*: set INPUT.FORMAT RGB"):
        pictures("matches", scenes, tmp_path / "out", *args, opts=["INPUT.FORMAT", "BGR"])
    pictures("matches", scenes, tmp_path / "out", *args)


def with_output(cfg, folder):
    cfg.OUTPUT_DIR = str(folder)
    return cfg


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
