"""Weights that tasks start from, what `--eval-only` evaluates, and trainers of other projects."""

import re

import pytest
import torch
import torchvision
from data_helpers import write_images

import configs
from pixpro_d2.data.datasets.catalog import ensure_registered
from pixpro_d2.data.pretrain.loader import build_view_loader
from pixpro_d2.engine.trainer import Trainer
from pixpro_d2.modeling.backbone import bottom_up
from pixpro_d2.utils.errors import UsageError


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
    small += ["INPUT.CLASSIFICATION.CROP_SIZE", 32, "INPUT.CLASSIFICATION.RESIZE", 32, "MODEL.WEIGHTS", ""]
    return configs.tiny(*names, *small, *opts, config=f"imagenet/{kind}.yaml")


def without(part, cfg, path):
    """The config with MODEL.WEIGHTS that have all but one part of its model."""
    state = Trainer.build_model(cfg).state_dict()
    torch.save({"model": {name: value for name, value in state.items() if not name.startswith(f"{part}.")}}, path)
    cfg.MODEL.WEIGHTS = str(path)
    return cfg


def test_a_random_backbone_is_a_baseline_of_knn(classes, tmp_path):
    cfg = classifier("knn_R_50", classes, "OUTPUT_DIR", str(tmp_path))
    assert Trainer.evaluate(cfg)["classification"]["knn1_top1"] == 100  # each image is its own neighbour


@pytest.mark.parametrize("part", ["projector", "target_backbone", "fc"])
def test_no_part_of_what_is_evaluated_is_random(part, classes, tmp_path):
    if part == "fc":
        cfg = classifier("linear_R_50_100ep", classes, "OUTPUT_DIR", str(tmp_path))
    else:
        cfg = configs.tiny("DATASETS.TEST", (f"images:{classes}",), "OUTPUT_DIR", str(tmp_path))
    cfg = without(part, cfg, tmp_path / "w.pth")
    with pytest.raises(
        UsageError, match=rf"w.pth would leave \d+ of .* weights random \({part} (\d+) of \1; it has no"
    ):
        Trainer.evaluate(cfg)


GREY = ["INPUT.FORMAT", "L", "MODEL.PIXEL_MEAN", [120.0], "MODEL.PIXEL_STD", [60.0]]
R18 = ["MODEL.RESNETS.DEPTH", 18, "MODEL.RESNETS.RES2_OUT_CHANNELS", 64, "MODEL.RESNETS.RES5_DILATION", 1]
TASKS = ("pretrain/quickstart", "voc/faster_rcnn_R_18_FPN_small", "voc/fcn_R_50_30k", "semseg/fpn_R_18_small")
TASKS += ("classification/resnet_R_18_small", "imagenet/knn_R_50")


@pytest.fixture(scope="module")
def grey(tmp_path_factory):
    """torchvision's ResNet-18 for images of one channel, as users make it."""
    torch.manual_seed(0)
    model = torchvision.models.resnet18()
    model.conv1 = torch.nn.Conv2d(1, 64, 7, 2, 3, bias=False)
    path = tmp_path_factory.mktemp("grey") / "grey.pth"
    torch.save(model.state_dict(), path)
    return model.conv1.weight, str(path)


@pytest.mark.parametrize("task", TASKS)
def test_grey_weights_go_into_every_task_of_grey_images(task, grey):
    weight, path = grey
    cfg = configs.tiny(*GREY, *R18, config=f"{task}.yaml")
    model = Trainer.build_model(cfg)
    Trainer.initialize(cfg, model, path)
    assert torch.equal(bottom_up(model.backbone).stem.conv1.weight, weight)


def test_grey_weights_are_evaluated(grey, classes, tmp_path):
    cfg = classifier("knn_R_50", classes, *GREY, "MODEL.WEIGHTS", grey[1], "OUTPUT_DIR", str(tmp_path))
    assert Trainer.evaluate(cfg)["classification"]["knn1_top1"] == 100


def test_other_numbers_of_channels_say_which_keys_to_set(grey, tmp_path):
    """Values, where the file tells them; and once set, the keys are right."""
    colour = str(tmp_path / "colour.pth")
    torch.save(torchvision.models.resnet18().state_dict(), colour)
    cfg = configs.tiny(*GREY, "OUTPUT_DIR", str(tmp_path))
    Trainer.build_checkpointer(cfg, Trainer.build_model(cfg)).save("own")
    rgb = 'INPUT.FORMAT RGB MODEL.PIXEL_MEAN "[123.675, 116.28, 103.53]"'
    for path, opts, message in (
        (
            grey[1],
            [],
            "is 1 in MODEL.WEIGHTS .*grey.pth and 3 in the model: set INPUT.FORMAT L, and MODEL.PIXEL_MEAN",
        ),
        (colour, GREY, f"was trained with RGB .*: set {re.escape(rgb)}"),
        (str(tmp_path / "own.pth"), [], r'set INPUT.FORMAT L MODEL.PIXEL_MEAN "\[120.0\]" MODEL.PIXEL_STD "\[60.0\]"'),
    ):
        cfg = configs.tiny(*opts)
        with pytest.raises(UsageError, match=message):
            Trainer.initialize(cfg, Trainer.build_model(cfg), path)


class WithOwnLoader(Trainer):
    """Reads batches from an iterable that cannot start in the middle."""

    @classmethod
    def build_train_loader(cls, cfg):
        return map(dict, build_view_loader(cfg))


def test_a_run_with_a_loader_of_its_own_resumes(tmp_path, caplog):
    write_images(tmp_path / "images", 4, (40, 40))
    data = (f"images:{tmp_path / 'images'}",)
    ensure_registered(data)
    for length in (1, 2):
        cfg = configs.tiny(*configs.C5, "DATASETS.TRAIN", data, "OUTPUT_DIR", str(tmp_path), "SOLVER.MAX_ITER", length)
        trainer = WithOwnLoader(cfg)
        trainer.resume_or_load()
        trainer.train()
    assert trainer.start_iter == 1
    assert "The resumed run reads its data from the start again: the map of build_train_loader" in caplog.text
