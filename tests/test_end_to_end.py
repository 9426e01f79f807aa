"""Render, pre-train, fine-tune, evaluate, evaluate again: real commands on the CPU."""

import re

import cli
import pytest
import torch
from documentation_helpers import blocks
from PIL import Image
from rendering import render_once
from safetensors.torch import load_file

import configs
from pixpro_d2.data.datasets.catalog import ensure_registered, load_dicts
from pixpro_d2.engine.trainer import Trainer

pytestmark = pytest.mark.slow

scenes = render_once(train=8, test=4, size=96)


@pytest.fixture(scope="module")
def pretrained(scenes):
    """A pre-training run of 6 iterations, and its output."""
    folder = scenes.parent / "pretrain"
    output = cli.run(*pretrain_args(scenes, folder, "SOLVER.MAX_ITER", 6), launcher=cli.FRESH)
    return folder, output


@pytest.fixture(scope="module")
def tuned(scenes, pretrained):
    """A detector trained from the pre-training, and its output."""
    folder = scenes.parent / "tuned"
    output = cli.run(*detector_args(scenes, folder, "MODEL.WEIGHTS", pretrained[0] / "model_final.pth"))
    return folder, output


def pretrain_args(scenes, folder, *opts):
    args = ["--config-file", "configs/pretrain/quickstart.yaml", "DATASETS.TRAIN", f"('images:{scenes}',)"]
    return [*args, *configs.TINY, "SOLVER.CHECKPOINT_PERIOD", 3, *opts, "OUTPUT_DIR", folder]


def detector_args(scenes, folder, *opts):
    args = ["--config-file", "configs/voc/faster_rcnn_R_18_FPN_small.yaml"]
    data = ["DATASETS.TRAIN", f"('voc:{scenes}@train',)", "DATASETS.TEST", f"('voc:{scenes}@test',)"]
    return [*args, *data, *configs.TINY_DETECTOR, *opts, "OUTPUT_DIR", folder]


def test_pretraining_writes_what_detectron2_writes(pretrained):
    folder, output = pretrained
    names = {path.name for path in folder.iterdir()}
    assert {"model_0000002.pth", "model_final.pth", "last_checkpoint", "metrics.json", "config.yaml"} <= names
    assert not any(name.endswith(".tmp") for name in names)
    assert f"The backbone as torchvision's resnet18: {folder}/backbone_torchvision.safetensors" in output
    trained = load_file(folder / "backbone_torchvision.safetensors")["conv1.weight"]
    last = cli.metrics(folder)[-1]
    assert last["iteration"] == 5 and {f"loss_pix_p{i}" for i in (3, 4, 5, 6)} <= set(last)
    assert last["ema_momentum"] == 1.0 and "lr" in last and "data_time" in last
    assert "effective learning rate" in output and "eta:" in output
    names = torch.load(folder / "model_final.pth", weights_only=True)["model"]
    assert torch.equal(names["backbone.bottom_up.stem.conv1.weight"], trained)
    assert any(name.startswith("backbone.bottom_up.res5.") for name in names) and "backbone.fpn_output5.weight" in names


def test_detector_from_the_checkpoint_and_eval_only_agree(scenes, tuned):
    (folder, output), again = tuned, scenes.parent / "again"
    assert re.search(r"Backbone: 20 of 20 convolutions, .* Tensors skipped: .*target_backbone", output)
    number = f"MODEL.ROI_HEADS.NUM_CLASSES is 5, the number of classes of data set 'voc:{scenes}@train'."
    assert number in output
    weights = folder / "model_final.pth"
    output = cli.run("--eval-only", *detector_args(scenes, again, "MODEL.WEIGHTS", weights))
    copied = re.findall(r"copypaste: (.*)", output)[-1]
    trained = cli.metrics(folder)[-1]
    assert copied == ",".join(f"{trained[f'bbox/{name}']:.4f}" for name in ("AP", "AP50", "AP75"))
    assert f"Result on voc:{scenes}@test: bbox AP {trained['bbox/AP']:.2f}, AP50" in output


def test_the_documented_prediction_is_that_of_the_evaluation(scenes, tuned, monkeypatch, tmp_path):
    """Run the block of docs/downstream.md for detectron2's DefaultPredictor, in a folder with its photo and run."""
    ensure_registered([f"voc:{scenes}@test"])
    records = load_dicts(f"voc:{scenes}@test")
    (tmp_path / "output").mkdir()
    (tmp_path / "output/my_detector").symlink_to(tuned[0])
    # OpenCV and Pillow may decode a JPEG differently; both recognise a PNG under any name.
    Image.open(records[0]["file_name"]).save(tmp_path / "photo.jpg", format="PNG")
    monkeypatch.chdir(tmp_path)
    (block,) = [block for block in blocks("docs/downstream.md", "python") if "DefaultPredictor" in block]
    names = {}
    exec(block, names)
    inputs = next(iter(Trainer.build_test_loader(names["cfg"], f"voc:{scenes}@test")))
    with torch.no_grad():
        (expected,) = names["predictor"].model(inputs[:1])
    found, expected = names["instances"], expected["instances"]
    assert len(found) > 0 and names["classes"] == ["disk", "ring", "square", "star", "triangle"]
    assert torch.equal(found.pred_boxes.tensor, expected.pred_boxes.tensor)
    assert torch.equal(found.scores, expected.scores)


def test_coco_data_set_by_path(scenes, pretrained):
    folder, _ = pretrained
    images = scenes / "JPEGImages"
    args = detector_args(scenes, scenes.parent / "coco", "MODEL.WEIGHTS", folder / "model_final.pth")
    data = ["DATASETS.TRAIN", f"('coco:{scenes}/annotations/train.json@{images}',)"]
    data += ["DATASETS.TEST", f"('coco:{scenes}/annotations/test.json@{images}',)"]
    output = cli.run(*args, *data)
    assert "copypaste: AP,AP50,AP75,APs,APm,APl" in output
