"""What `--eval-only` evaluates."""

import pytest
import torch
from data_helpers import write_images

import configs
from pixpro_d2.data.catalog import ensure_registered
from pixpro_d2.engine.trainer import Trainer
from pixpro_d2.errors import UsageError


@pytest.fixture(scope="module")
def classes(tmp_path_factory):
    """A folder of images in two classes."""
    folder = tmp_path_factory.mktemp("classes")
    for name, height in (("a", 40), ("b", 60)):
        write_images(folder / name, 2, (height, 40))
    return folder


def classifier(kind, classes, *opts):
    """A config of kNN or linear classification by a ResNet-18."""
    data = (f"classes:{classes}",)
    ensure_registered(data)
    names = ["DATASETS.TRAIN", data, "DATASETS.TEST", data, "MODEL.CLASSIFIER.NUM_CLASSES", 2]
    small = ["MODEL.RESNETS.DEPTH", 18, "MODEL.RESNETS.RES2_OUT_CHANNELS", 64, "MODEL.CLASSIFIER.NEIGHBORS", [1]]
    small += ["INPUT.CLASSIFICATION.CROP_SIZE", 32, "INPUT.CLASSIFICATION.RESIZE", 32]
    return configs.tiny(*names, *small, *opts, config=f"imagenet/{kind}.yaml")


def without(part, cfg, path):
    """The config with MODEL.WEIGHTS that have all but one part of its model."""
    state = Trainer.build_model(cfg).state_dict()
    torch.save({"model": {name: value for name, value in state.items() if not name.startswith(f"{part}.")}}, path)
    cfg.MODEL.WEIGHTS = str(path)
    return cfg


def test_a_random_backbone_is_a_baseline_of_knn(classes, tmp_path):
    cfg = classifier("knn_R_50_random", classes, "OUTPUT_DIR", str(tmp_path))
    assert Trainer.evaluate(cfg)["classification"]["knn1_top1"] == 100  # each image is its own neighbour


@pytest.mark.parametrize("part", ["projector", "target_backbone", "fc"])
def test_no_part_of_what_is_evaluated_is_random(part, classes, tmp_path):
    if part == "fc":
        cfg = classifier("linear_R_50_100ep_pixpro", classes, "OUTPUT_DIR", str(tmp_path))
    else:
        cfg = configs.tiny("DATASETS.TEST", (f"images:{classes}",), "OUTPUT_DIR", str(tmp_path))
    cfg = without(part, cfg, tmp_path / "w.pth")
    with pytest.raises(
        UsageError, match=rf"w.pth would leave \d+ of .* weights random \({part} (\d+) of \1; it has no"
    ):
        Trainer.evaluate(cfg)
