"""The sub-command that shows SlotCon's prototypes, and the same picture during training."""

import numpy as np
import pytest
import torch
from PIL import Image

import configs
from pixpro_d2.engine.trainer import Trainer
from pixpro_d2.extras.report.pictures import find_pictures
from pixpro_d2.extras.scenes.render_dataset import render_dataset
from pixpro_d2.tools import visualize
from pixpro_d2.visualization.figures import WIDTH

CONFIG = "pretrain/slotcon_quickstart.yaml"
TINY = [*map(str, configs.TINY), "MODEL.PIXPRO.SLOTCON.NUM_PROTOTYPES", "6"]


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    out = tmp_path_factory.mktemp("slots") / "scenes"
    render_dataset(out, train=4, test=0, size=64, layouts=("voc",))
    return out / "JPEGImages"


@pytest.fixture(scope="module")
def run(scenes, tmp_path_factory):
    """Folder of a run of one iteration with pictures."""
    folder = tmp_path_factory.mktemp("slots_run")
    opts = ["DATASETS.TRAIN", (f"images:{scenes}",), "OUTPUT_DIR", str(folder), "VIS_PERIOD", 1, "SOLVER.MAX_ITER", 1]
    cfg = configs.tiny(*opts, "MODEL.PIXPRO.SLOTCON.NUM_PROTOTYPES", 6, config=CONFIG)
    Trainer(cfg).train()
    return folder


def shown(scenes, folder, *args):
    words = ["slots", "--config-file", str(configs.CONFIGS / CONFIG), "--input", str(scenes), "--count", "2"]
    visualize.main([*words, "--output", str(folder), *args, *TINY])
    (path,) = folder.iterdir()
    return path.name, np.asarray(Image.open(path))


def test_pictures_during_training_are_found_by_the_report(run):
    found = [picture for picture in find_pictures(run / "vis") if picture.name == "slots"]
    assert [picture.iteration for picture in found] == [0]
    assert all(Image.open(picture.path).width == WIDTH for picture in found)


def test_picture_of_a_checkpoint(scenes, run, tmp_path):
    name, first = shown(scenes, tmp_path / "first", "--weights", str(run / "model_final.pth"))
    assert name == "slots.png" and first.shape[1] == WIDTH
    again, random = (
        shown(scenes, tmp_path / "second", "--weights", str(run / "model_final.pth"))[1],
        shown(scenes, tmp_path / "random")[1],
    )
    assert np.array_equal(first, again)
    assert first.shape != random.shape or not np.array_equal(first, random)


def test_one_level(scenes, run, tmp_path):
    _, picture = shown(scenes, tmp_path, "--level", "p4", "--weights", str(run / "model_final.pth"))
    assert picture.shape[0] > 1.9 * WIDTH / 2  # two rows of two panels


def test_prototypes_must_be_in_the_file(scenes, tmp_path):
    model = Trainer.build_model(configs.tiny("MODEL.PIXPRO.SLOTCON.NUM_PROTOTYPES", 6, config=CONFIG))
    state = {name: x for name, x in model.state_dict().items() if "prototypes" not in name}
    torch.save({"model": state}, tmp_path / "half.pth")
    with pytest.raises(SystemExit, match="error: .*half.pth has no prototypes that fits this config"):
        shown(scenes, tmp_path / "out", "--weights", str(tmp_path / "half.pth"))


def test_another_method_has_no_prototypes(scenes, tmp_path):
    words = ["slots", "--config-file", str(configs.CONFIGS / "pretrain/quickstart.yaml"), "--input", str(scenes)]
    with pytest.raises(SystemExit, match="has no prototypes.*METHOD is pixpro"):
        visualize.main([*words, "--output", str(tmp_path), *map(str, configs.TINY)])
