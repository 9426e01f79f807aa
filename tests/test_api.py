"""Pre-training, fine-tuning and backbone by one call each."""

import dataclasses
import math
import multiprocessing.spawn
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import torchvision
from annotation_helpers import coco_object, replace_in, voc_object, write_coco, write_sem_seg, write_voc
from archive_helpers import write_zip
from data_helpers import write_images
from detectron2.data import MetadataCatalog
from rendering import render_once
from torch import nn

import configs
import pixpro_d2
from pixpro_d2 import cli
from pixpro_d2.data.datasets.catalog import load_dicts
from pixpro_d2.data.pretrain.samples import load_images
from pixpro_d2.utils.errors import UsageError

TINY = dict(zip(configs.TINY[::2], configs.TINY[1::2])) | {"SOLVER.MAX_ITER": 2}

scenes = render_once(train=6, test=2, size=64)


@pytest.fixture(scope="module")
def pretraining(scenes):
    return pixpro_d2.pretrain(scenes / "JPEGImages", scenes / "run", overrides=TINY)


def test_pretraining_leaves_checkpoint_metrics_and_backbone(pretraining, scenes):
    assert pretraining.folder == scenes / "run" and pretraining.checkpoint.is_file()
    assert math.isfinite(pretraining.metrics["total_loss"])
    network = pretraining.backbone
    trained = torch.load(pretraining.checkpoint, weights_only=True)["model"]["backbone.bottom_up.stem.conv1.weight"]
    assert torch.equal(network.conv1.weight, trained)
    with torch.no_grad():
        assert network(torch.rand(1, 3, 64, 64)).shape == (1, 512)


def test_a_backbone_of_unknown_input_is_refused(pretraining, tmp_path):
    """As of detectron2's own trainings, most of which take BGR."""
    torch.save({"model": torch.load(pretraining.checkpoint, weights_only=True)["model"]}, tmp_path / "model.pth")
    with pytest.raises(UsageError, match="model.pth does not say which input its backbone takes"):
        pixpro_d2.load_backbone(tmp_path / "model.pth")


def test_a_backbone_of_a_range_of_pixels_is_a_warning(pretraining, tmp_path):
    contents = torch.load(pretraining.checkpoint, weights_only=True)
    contents["input"]["pixel_range"] = [0, 4095]
    torch.save(contents, tmp_path / "model.pth")
    with pytest.warns(UserWarning, match="model.pth has a range of pixels: .* so that 0 becomes 0 and 4095 becomes 1"):
        pixpro_d2.load_backbone(tmp_path / "model.pth")


def test_a_backbone_of_a_diverged_training_is_refused(pretraining, tmp_path):
    contents = torch.load(pretraining.checkpoint, weights_only=True)
    contents["model"]["backbone.bottom_up.stem.conv1.weight"][0] = math.nan
    torch.save(contents, tmp_path / "model.pth")
    with pytest.raises(UsageError, match=r"model.pth has infinite or NaN values in 1 of .* \(stem.conv1.weight is the"):
        pixpro_d2.load_backbone(tmp_path / "model.pth")


def test_the_backbone_of_a_learner(tmp_path):
    """The state of the learner tells neither the network nor its input; the network alone is torchvision's."""
    net = torchvision.models.resnet18()
    learner = pixpro_d2.PixelLearner(net, "layer2", image_size=32, hidden_dim=8, out_dim=4)
    torch.save(learner.state_dict(), tmp_path / "learner.pth")
    with pytest.raises(UsageError, match=r"save the network of a learner alone by torch.save.learner.net.state_dict"):
        pixpro_d2.load_backbone(tmp_path / "learner.pth")
    torch.save(learner.net.state_dict(), tmp_path / "network.pth")
    network = pixpro_d2.load_backbone(tmp_path / "network.pth")
    images = torch.rand(2, 3, 32, 32)
    net.fc = nn.Identity()
    torch.testing.assert_close(network(images), net.eval()(images))


def test_a_backbone_without_an_equal_resnet(pretraining, tmp_path):
    run = dataclasses.replace(pretraining, folder=tmp_path)
    with pytest.raises(
        UsageError, match="No ResNet of torchvision is equal to the backbone of .*model_final.pth: build"
    ):
        _ = run.backbone


def test_finetuning_from_it(pretraining, scenes):
    overrides = {"MODEL.FPN.OUT_CHANNELS": 32, "SOLVER.MAX_ITER": 1, "SOLVER.STEPS": (), "SOLVER.IMS_PER_BATCH": 2}
    run = pixpro_d2.finetune(
        pretraining.checkpoint,
        "segmentation",
        f"voc_seg:{scenes}@train",
        f"voc_seg:{scenes}@test",
        scenes / "tuned",
        overrides=overrides | {"DATALOADER.NUM_WORKERS": 0, "INPUT.CROP.SIZE": [64, 64]},
    )
    assert run.checkpoint.is_file() and 0 <= run.metrics["sem_seg/mIoU"] <= 100


@pytest.fixture
def planned(monkeypatch):
    """Let each run end once it is planned; the names of the data sets of all runs."""
    names = []

    def stop(plan):
        names.append(plan.words[plan.words.index("DATASETS.TRAIN") + 1])
        raise SystemExit("error: stop")

    monkeypatch.setattr("pixpro_d2.api.run_plan", stop)
    return names


def test_images_added_between_two_runs_count(planned, tmp_path):
    for count in (2, 5):
        write_images(tmp_path / "photos", count)
        with pytest.raises(UsageError, match="^stop$"):
            pixpro_d2.pretrain(tmp_path / "photos", tmp_path / "run", overrides=TINY)
        assert len(load_images(tuple(planned[-1:]))) == count


def test_labels_corrected_between_two_runs_count(planned, pretraining, tmp_path):
    box = (1, 1, 20, 20)
    voc = write_voc(tmp_path / "voc", {"a": [voc_object("cat", box)], "b": [voc_object("caat", box)]})
    coco = write_coco(tmp_path / "coco", [coco_object(1, box)])
    stripes = write_sem_seg(tmp_path / "stripes", (0, 1))
    for change in (False, True):
        if change:
            replace_in(tmp_path / "voc/Annotations/b.xml", "caat", "dog")
            replace_in(tmp_path / "coco/a.json", '"name": "b"', '"name": "z"')
            write_sem_seg(tmp_path / "stripes", (0, 2))
        for name in (voc, coco, stripes):
            with pytest.raises(UsageError, match="^stop$"):
                pixpro_d2.finetune(pretraining.checkpoint, "detection", name)
        found = [MetadataCatalog.get(name).get("thing_classes") for name in (voc, coco)]
        assert found == ([["cat", "dog"], ["a", "z"]] if change else [["caat", "cat"], ["a", "b"]])
        assert MetadataCatalog.get(stripes).stuff_classes == ["0", "1", "2"][: 2 + change]
        assert [x["annotations"][0]["category_id"] for x in load_dicts(voc)] == ([0, 1] if change else [1, 0])


def test_a_thread_is_refused():
    with (
        ThreadPoolExecutor(1, "study") as pool,
        pytest.raises(UsageError, match="the thread study_0 starts it: start e"),
    ):
        pool.submit(pixpro_d2.pretrain, "nowhere").result()


def test_a_new_process_that_imports_the_script_is_refused(monkeypatch):
    """As Python refuses to start a process there; other processes that multiprocessing starts may run anything."""
    monkeypatch.setattr(multiprocessing.current_process(), "_inheriting", True, raising=False)
    with pytest.raises(RuntimeError, match="if __name__ == .__main__.:"):
        multiprocessing.spawn._check_not_importing_main()
    with pytest.raises(UsageError, match='below `if __name__ == "__main__":`.$'):
        pixpro_d2.finetune("none.pth", "detection", "nowhere")


def test_a_mistake_is_an_exception_with_one_sentence(scenes, pretraining):
    with pytest.raises(UsageError, match="^There is no folder .*nowhere: check the path of the data.$"):
        pixpro_d2.pretrain("nowhere")
    with pytest.raises(UsageError, match="^OUTPUT_DIR .* holds the checkpoint model_final.pth of a run"):
        pixpro_d2.pretrain(scenes / "JPEGImages", pretraining.folder, overrides=TINY)


def test_the_command_ends_with_the_next_commands(scenes, capsys):
    options = [str(word) for pair in (TINY | {"SOLVER.MAX_ITER": 1}).items() for word in pair]
    photos = write_zip(scenes / "photos.zip", scenes / "JPEGImages")
    cli.main(["pretrain", str(photos), "--out", str(scenes / "by_command"), *options])
    report, finetune = capsys.readouterr().out.splitlines()[-2:]
    assert report == f"  pixpro-d2 report {scenes}/by_command"
    assert finetune.startswith(f"  pixpro-d2 finetune {scenes}/by_command/model_final.pth --task detection")
