"""The names registered below $DETECTRON2_DATASETS, with files where they expect them."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from data_helpers import write_images
from detectron2.data import DatasetCatalog
from detectron2.data.datasets.builtin_meta import COCO_CATEGORIES
from PIL import Image

from pixpro_d2.data.datasets.imagenet import register_imagenet
from pixpro_d2.extras.scenes.render_dataset import render_dataset

# Prints file, label and number of classes of the first image of each data set.
SCRIPT = """
import json, multiprocessing, sys
from detectron2.data import DatasetCatalog, MetadataCatalog
import pixpro_d2.data
multiprocessing.Pool = None  # detectron2 leaves the workers of a pool to the garbage collection
found = {}
for name, key in json.loads(sys.argv[1]).items():
    record = DatasetCatalog.get(name)[0]
    label = record.get("sem_seg_file_name", record.get("category_id"))
    found[name] = record["file_name"], label, len(getattr(MetadataCatalog.get(name), key))
print(json.dumps(found))
"""


@pytest.fixture
def datasets(tmp_path):
    for wnid in ("n01", "n02"):
        write_images(tmp_path / "imagenet" / "train" / wnid, 1)
    images, masks = tmp_path / "bdd100k/images/10k/val", tmp_path / "bdd100k/labels/sem_seg/masks/val"
    write_images(images, 1, (4, 6))
    masks.mkdir(parents=True)
    Image.fromarray(np.zeros((4, 6), dtype=np.uint8)).save(masks / "000.png")
    render_dataset(tmp_path / "VOC2012", train=2, test=0, size=32, layouts=["voc"])
    (tmp_path / "VOC2012" / "SegmentationClass").rename(tmp_path / "VOC2012" / "SegmentationClassAug")
    lists = tmp_path / "VOC2012" / "ImageSets" / "Segmentation"
    (lists / "train.txt").rename(lists / "train_aug.txt")
    render_dataset(tmp_path / "cityscapes", train=1, test=1, size=32, layouts=["cityscapes"])
    (tmp_path / "coco" / "annotations").mkdir(parents=True)
    content = {
        "images": [{"id": 7, "file_name": "x.jpg", "width": 8, "height": 8}],
        "annotations": [],
        "categories": [category for category in COCO_CATEGORIES if category["isthing"]],
    }
    (tmp_path / "coco" / "annotations" / "instances_train2017_1pct.json").write_text(json.dumps(content))
    return tmp_path


def test_names_below_the_datasets_folder(datasets):
    names = {
        "imagenet_train": "classes",
        "bdd100k_sem_seg_val": "stuff_classes",
        "voc_2012_sem_seg_train_aug": "stuff_classes",
        "coco_2017_train_1pct": "thing_classes",
        "cityscapes_fine_instance_seg_train": "thing_classes",
        "cityscapes_fine_instance_seg_val": "thing_classes",
    }
    env = {**os.environ, "DETECTRON2_DATASETS": str(datasets)}
    command = [sys.executable, "-c", SCRIPT, json.dumps(names)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    voc, bdd, city = datasets / "VOC2012", datasets / "bdd100k", datasets / "cityscapes/leftImg8bit"
    assert json.loads(done.stdout) == {
        "imagenet_train": [str(datasets / "imagenet/train/n01/000.png"), 0, 2],
        "bdd100k_sem_seg_val": [str(bdd / "images/10k/val/000.png"), str(bdd / "labels/sem_seg/masks/val/000.png"), 19],
        "voc_2012_sem_seg_train_aug": [
            str(voc / "JPEGImages/000000.jpg"), str(voc / "SegmentationClassAug/000000.png"), 21,
        ],
        "coco_2017_train_1pct": [str(datasets / "coco/train2017/x.jpg"), None, 80],
        "cityscapes_fine_instance_seg_train": [
            str(city / "train/scenes/scenes_000000_000019_leftImg8bit.png"), None, 8,
        ],
        "cityscapes_fine_instance_seg_val": [str(city / "val/scenes/scenes_000001_000019_leftImg8bit.png"), None, 8],
    }  # fmt: skip


def test_data_sets_of_the_project_stay(caplog):
    before = dict(DatasetCatalog)
    with caplog.at_level("INFO"):
        register_imagenet("elsewhere")
    assert dict(DatasetCatalog) == before and "imagenet_train" in before
    assert "The data set imagenet_train stays as the project has registered it." in caplog.messages
