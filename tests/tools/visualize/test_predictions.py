"""The sub-command that shows what downstream models predict."""

from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.data import MetadataCatalog
from PIL import Image
from rendering import render_once

import configs
from pixpro_d2.checkpoint import PixProCheckpointer
from pixpro_d2.data.datasets.catalog import ensure_registered
from pixpro_d2.engine.trainer import Trainer
from pixpro_d2.tools import visualize
from pixpro_d2.tools.visualize.predictions import titles
from pixpro_d2.visualization import predictions

DETECTOR = "voc/faster_rcnn_R_18_FPN_small.yaml"
DETECTOR_OPTS = ["MODEL.ROI_HEADS.NUM_CLASSES", 5, "MODEL.ROI_HEADS.SCORE_THRESH_TEST", 0.0, "INPUT.MIN_SIZE_TEST", 64]
SMALL = ["MODEL.RESNETS.DEPTH", 18, "MODEL.RESNETS.RES2_OUT_CHANNELS", 64, "MODEL.RESNETS.RES5_DILATION", 1]

labelled = render_once(train=0, test=10, size=80, layouts=("voc",))


def checkpoint(folder, config, opts, seed):
    """Random weights of a downstream model in a folder of their own."""
    folder.mkdir()
    torch.manual_seed(seed)
    PixProCheckpointer(Trainer.build_model(configs.tiny(*opts, config=config)), str(folder)).save("model_final")
    return str(folder / "model_final.pth")


def predict(config, folder, weights, *args):
    words = ["predictions", "--config-file", str(configs.CONFIGS / config), "--output", str(folder / "out")]
    for path in weights:
        words += ["--weights", path]
    visualize.main([*words, *args])


def test_detections_of_two_models_beside_the_truth(labelled, tmp_path, monkeypatch, capsys):
    paths = [checkpoint(tmp_path / name, DETECTOR, DETECTOR_OPTS, seed) for seed, name in enumerate(("one", "two"))]
    opts = list(map(str, [*configs.TINY_DETECTOR, *DETECTOR_OPTS]))
    args = ["--input", f"voc:{labelled}@test", "--count", "1", "--min-score", "0.1", *opts]
    predict(DETECTOR, tmp_path, paths, *args)
    (path,) = capsys.readouterr().out.split()
    assert Path(path).name.startswith("predictions_000_") and Image.open(path).width <= 1200
    seen = []
    monkeypatch.setattr(predictions, "draw_detections", lambda *args: seen.append(args) or Image.new("RGB", (1, 1)))
    predict(DETECTOR, tmp_path, paths, *args)
    ((image, truth, found, names, min_score, _),) = seen
    assert list(found) == ["one", "two"] and len(truth) > 0 and len(names) == 5 and min_score == 0.1
    # Boxes are in pixels of the image, whatever the size that the model saw.
    assert all(boxes.image_size == image.size[::-1] for boxes in found.values())
    assert not torch.equal(found["one"].scores[:3], found["two"].scores[:3])


def test_a_model_of_other_classes_is_refused(labelled, tmp_path):
    """As many classes, in another order: the pictures would have wrong names."""
    path = checkpoint(tmp_path / "run", DETECTOR, DETECTOR_OPTS, 0)
    name = f"voc:{labelled}@test"
    ensure_registered([name])
    torch.save({**torch.load(path), "classes": MetadataCatalog.get(name).thing_classes[::-1]}, path)
    with pytest.raises(SystemExit, match="classes"):
        predict(DETECTOR, tmp_path, [path], "--input", name, *map(str, [*configs.TINY_DETECTOR, *DETECTOR_OPTS]))


def test_segmentation_beside_the_truth(labelled, tmp_path, monkeypatch):
    config = "voc/fcn_R_50_30k.yaml"
    opts = ["MODEL.SEM_SEG_HEAD.NUM_CLASSES", 6, "MODEL.SEM_SEG_HEAD.CONVS_DIM", 16, "INPUT.MIN_SIZE_TEST", 64, *SMALL]
    path = checkpoint(tmp_path / "run", config, opts, 0)
    seen = []
    monkeypatch.setattr(predictions, "draw_segmentation", lambda *args: seen.append(args) or Image.new("RGB", (1, 1)))
    data = ["DATASETS.TEST", f"('voc_seg:{labelled}@test',)"]
    predict(
        config, tmp_path, [path], "--init", "random", "--count", "1", *map(str, [*configs.TINY_DETECTOR, *opts, *data])
    )
    ((image, truth, names, found, ignored, _),) = seen
    assert list(found) == ["run"] and len(names) == 6 and ignored == 255
    assert truth.shape == found["run"].shape == image.size[::-1]
    assert set(np.unique(found["run"])) <= set(range(6))


@pytest.mark.parametrize(
    "config, args, message",
    [
        ("pretrain/quickstart.yaml", [], "MODEL.META_ARCHITECTURE of .*quickstart.yaml is PixPro, whose predictions"),
        (DETECTOR, [], "DATASETS.TEST is empty: name a labelled data set by --input"),
        (
            DETECTOR,
            ["--input", "my_photos"],
            "Data set 'my_photos' is not registered; there is no such folder either: address",
        ),
        (DETECTOR, ["--input", "images:{}"], "Data set 'images:.*' has no labels of detection"),
        (
            DETECTOR,
            ["--input", "voc:{}@test", "MODEL.ROI_HEADS.NUM_CLASSES", "80"],
            "NUM_CLASSES is 80, but data set .* has 5 classes: set it to 5",
        ),
        (DETECTOR, ["--input", "voc:{}@test"], "There is no checkpoint .*none.pth"),
    ],
)
def test_mistakes_with_predictions_are_one_line(labelled, tmp_path, config, args, message):
    args = [arg.format(labelled) for arg in args]
    with pytest.raises(SystemExit, match=f"error: .*{message}") as info:
        predict(config, tmp_path, ["none.pth"], *args)
    assert "\n" not in str(info.value)


def test_titles_are_folders_unless_they_are_the_same():
    assert titles(["a/x.pth", "b/x.pth"]) == {"a": "a/x.pth", "b": "b/x.pth"}
    assert titles(["0/a/x.pth", "1/a/x.pth", "1/a/x.pth"]) == {"0/a": "0/a/x.pth", "1/a": "1/a/x.pth"}
    assert titles(["a/x.pth", "a/y.pth"]) == {"a/x": "a/x.pth", "a/y": "a/y.pth"}
