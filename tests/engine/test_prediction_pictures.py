"""Pictures of predictions during downstream training, and that training does not notice."""

import re

import numpy as np
import pytest
import torch
from data_helpers import logged
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.utils import comm
from downstream import COCO, FCOS, RETINANET, VOC, VOC_SEG, options
from PIL import Image
from rendering import render_once

import configs
from pixpro_d2.data import ensure_registered
from pixpro_d2.engine import Trainer
from pixpro_d2.engine.configuration.configure import load_config, resolve_sync_bn
from pixpro_d2.engine.pictures import build_prediction_hook

SMALL = [
    "MODEL.RESNETS.DEPTH", 50, *configs.NARROW, "SOLVER.MAX_ITER", 3,
    "SOLVER.METRICS_PERIOD", 1, "TEST.EVAL_PERIOD", 0, "TEST.PRECISE_BN.ENABLED", False,
]  # fmt: skip
FCN = ["MODEL.SEM_SEG_HEAD.CONVS_DIM", 16]
TASKS = {
    "faster_rcnn": ("voc/faster_rcnn_R_18_FPN_small", *VOC),
    "retinanet": ("coco/retinanet_R_50_FPN_1x", *COCO, *RETINANET, "MODEL.RETINANET.NUM_CLASSES", 5),
    "fcos": ("coco/fcos_R_50_FPN_1x", *COCO, *FCOS),
    "fcn": ("voc/fcn_R_50_30k", *VOC_SEG, *FCN),
}

scenes = render_once(train=5, test=4, size=96, layouts=("voc", "coco"))


def config(scenes, folder, task, *opts):
    name, data, *more = TASKS[task]
    small = [*options(scenes, data, *more), *SMALL, "OUTPUT_DIR", str(folder), *opts]
    cfg = load_config(str(configs.CONFIGS / f"{name}.yaml"), small, "random")
    resolve_sync_bn(cfg)
    ensure_registered([*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST])
    return cfg


def build(cfg, model):
    """The hook, with pictures every two iterations."""
    cfg = cfg.clone()
    cfg.VIS_PERIOD = 2
    return build_prediction_hook(cfg, model, Trainer.build_test_loader)


class Pictured(Trainer):
    """Trains with pictures."""

    def build_hooks(self):
        return [build(self.cfg, self.checkpointer.model), *super().build_hooks()]


def train(kind, cfg):
    torch.manual_seed(1)
    trainer = kind(cfg)
    trainer.resume_or_load(False)
    trainer.train()
    return trainer


@pytest.mark.parametrize("task", TASKS)
def test_training_does_not_notice(scenes, tmp_path, task):
    # The first run of a process may differ from all later ones in its last bits, with or without pictures.
    kinds = Trainer, Pictured, Trainer
    _, pictured, plain = [train(kind, config(scenes, tmp_path / kind.__name__, task)) for kind in kinds]
    folder = tmp_path / "Pictured/vis"
    files = [f"predictions_{i}_{iteration:07d}.png" for i in (1, 2, 3) for iteration in (1, 2)]
    assert sorted(path.name for path in folder.iterdir()) == files  # of every second iteration, and of the last
    first, last = (np.asarray(Image.open(folder / name)) for name in files[:2])
    assert first.shape[1] <= 1200 and (first.shape != last.shape or (first != last).any())
    assert not (tmp_path / "Trainer/vis").exists()
    ours, theirs = (trainer.checkpointer.model.state_dict() for trainer in (pictured, plain))
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
    losses = [trainer.storage.history("total_loss").values() for trainer in (pictured, plain)]
    assert losses[0] == losses[1] and len(losses[0]) == 3


def test_detectron2s_own_pictures_stay(scenes, tmp_path, monkeypatch):
    """It draws proposals for the batch at hand, the hook predictions for fixed images, for the same writers."""
    monkeypatch.setattr(Trainer, "build_writers", lambda self: [])  # which would clear the pictures
    trainer = Pictured(config(scenes, tmp_path, "faster_rcnn"))
    trainer.checkpointer.model.vis_period = 2
    trainer.train()
    shown = [(name, iteration) for name, _, iteration in trainer.storage._vis_data]
    own = [("Left: GT bounding boxes;  Right: Predicted proposals", i) for i in (0, 2)]
    assert sorted(shown) == sorted([*own, *((f"predictions_{i}", j) for i in (1, 2, 3) for j in (1, 2))])


def test_images_of_the_training_where_there_are_none_to_test_on(scenes, tmp_path):
    for opts, split, count in (((), "test", 3), (("DATASETS.TEST", ()), "train", 3)):
        cfg = config(scenes, tmp_path, "faster_rcnn", *opts)
        listed = (scenes / f"ImageSets/Main/{split}.txt").read_text().split()
        images = build(cfg, Trainer.build_model(cfg)).images
        names = {labelled.sample["image_id"] for labelled in images}
        assert len(names) == count and names <= set(listed)
        for labelled in images:
            height, width = labelled.sample["height"], labelled.sample["width"]
            assert labelled.image.size == (width, height) and len(labelled.truth) > 0


@pytest.mark.parametrize(
    "task, opts, message",
    [
        ("faster_rcnn", ["MODEL.META_ARCHITECTURE", "KNNClassifier"], "predictions: a KNNClassifier has none"),
        ("faster_rcnn", ["DATASETS.TEST", ("images:{}/JPEGImages",)], "predictions: Data set .* has no labels of det"),
        ("faster_rcnn", ["MODEL.ROI_HEADS.NUM_CLASSES", 4], "predictions: MODEL.ROI_HEADS.NUM_CLASSES is 4"),
    ],
)
def test_what_cannot_be_shown_costs_a_warning(scenes, tmp_path, task, opts, message):
    opts = [tuple(x.format(scenes) for x in opt) if isinstance(opt, tuple) else opt for opt in opts]
    with logged("pixpro_d2") as messages:
        assert build(config(scenes, tmp_path, task, *opts), None) is None
    (found,) = [line for line in messages if "There will be no pictures" in line]
    assert re.search(message, found)


def test_unreadable_images_are_passed_over(scenes, tmp_path):
    cfg = config(scenes, tmp_path, "fcn")
    shown = build(cfg, None).images
    broken = shown[0].sample["file_name"]
    path = scenes / "JPEGImages" / broken.rsplit("/", 1)[-1]
    content = path.read_bytes()
    path.write_text("not an image")
    try:
        with logged("pixpro_d2") as messages:
            found = build(cfg, None).images
    finally:
        path.write_bytes(content)
    assert len(found) == 3 and broken not in {labelled.sample["file_name"] for labelled in found}
    assert any(f"There will be no pictures of {broken}" in line for line in messages)


def test_other_processes_have_no_hook(scenes, tmp_path, monkeypatch):
    monkeypatch.setattr(comm, "is_main_process", lambda: False)
    assert build(config(scenes, tmp_path, "fcn"), None) is None


def test_pictures_are_of_the_statistics_that_are_saved(scenes, tmp_path):
    opts = ["VIS_PERIOD", 2, "TEST.PRECISE_BN.ENABLED", True]
    kinds = [type(hook).__name__ for hook in Trainer(config(scenes, tmp_path, "faster_rcnn", *opts)).build_hooks()]
    assert kinds.index("PreciseBN") < kinds.index("PredictionHook") < kinds.index("CheckpointHook")


def test_an_image_of_another_size_than_its_data_set_says_is_passed_over(scenes, tmp_path):
    cfg = config(scenes, tmp_path, "faster_rcnn")
    shown = build(cfg, None).images[0].sample["file_name"]
    record = next(record for record in DatasetCatalog.get(cfg.DATASETS.TEST[0]) if record["file_name"] == shown)
    DatasetCatalog.register("another_size", lambda: [dict(record, width=record["width"] + 1), record])
    MetadataCatalog.get("another_size").set(thing_classes=MetadataCatalog.get(cfg.DATASETS.TEST[0]).thing_classes)
    try:
        with logged("pixpro_d2") as messages:
            found = build(config(scenes, tmp_path, "faster_rcnn", "DATASETS.TEST", ("another_size",)), None).images
    finally:
        DatasetCatalog.remove("another_size"), MetadataCatalog.remove("another_size")
    assert len(found) == 1 and any(f"no pictures of {shown}, whose data set says another size" in m for m in messages)
