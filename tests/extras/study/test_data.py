"""The data of a study: nested sets of labelled images, and what is refused."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rendering import render_once

from pixpro_d2.data.datasets.voc import image_ids, load_voc
from pixpro_d2.extras.scenes.render_dataset import render_dataset
from pixpro_d2.extras.study.data import StudyData
from pixpro_d2.extras.study.methods import PARTS, Part
from pixpro_d2.extras.study.recipes import ROOT, STUDY, Scale
from pixpro_d2.utils.errors import UsageError

scenes = render_once(train=12, test=2, size=64, layouts=("voc",))


def write_data(folder, scenes, *variants, seeds=(0,)):
    data = StudyData(folder, cells=scenes)
    data.write_missing([Part("", "cells", dict.fromkeys(variants, ()), "")], seeds, STUDY)
    return data


def test_few_labels_are_nested_seeded_parts_of_the_training_images(tmp_path, scenes):
    write_data(tmp_path, scenes, "3", "7", "all", seeds=(0, 1))
    root = str(tmp_path / "cells")
    drawn = {(n, seed): set(image_ids(root, f"train_{n}_seed{seed}")) for n in (3, 7) for seed in (0, 1)}
    assert [len(ids) for ids in drawn.values()] == [3, 3, 7, 7]
    assert all(drawn[3, seed] < drawn[7, seed] < set(image_ids(str(scenes), "train")) for seed in (0, 1))
    assert drawn[7, 0] != drawn[7, 1]


def test_the_labels_are_those_of_the_data_set(tmp_path, scenes):
    write_data(tmp_path, scenes, "3")
    labels = {item["image_id"]: item for item in load_voc(str(scenes), "train")}
    few = load_voc(str(tmp_path / "cells"), "train_3_seed0")
    assert len(few) == 3
    assert all(item["annotations"] == labels[item["image_id"]]["annotations"] for item in few)


def test_more_labels_than_images(tmp_path, scenes):
    with pytest.raises(UsageError, match="has 12 images in its split 'train'.*takes 13"):
        write_data(tmp_path, scenes, "13")


def test_trainval_is_preferred_to_train(tmp_path):
    (tmp_path / "ImageSets" / "Main").mkdir(parents=True)
    data = StudyData(tmp_path, cells=tmp_path)
    assert data.train_split == "train"
    (tmp_path / "ImageSets" / "Main" / "trainval.txt").touch()
    assert data.train_split == "trainval"


def test_what_is_tested_on_was_seen_neither_in_pretraining_nor_in_fine_tuning(tmp_path):
    data = StudyData(tmp_path)
    data.write_missing([PARTS["video"]], [0], Scale({}, {"videos": 4, "frames": 6, "size": (64, 128)}))
    pretraining, fine_tuning = data.pretraining("video"), data.fine_tuning("driving", "tuned", 0)
    names = pretraining["DATASETS.TRAIN"], fine_tuning["DATASETS.TRAIN"], fine_tuning["DATASETS.TEST"]
    unlabelled, train, test = (ROOT / name.split('"')[1].partition(":")[2] for name in names)
    seen = [*unlabelled.glob("*/*.jpg"), *_labelled(train)]
    tested = _labelled(test)
    assert tested and len(seen) == 4 * 6 + 3 * len(tested)
    frames = np.stack([_pixels(path) for path in seen])
    # A frame and the next one of its video differ by less than 10, JPEG by less than 2.
    assert all(np.abs(frames - _pixels(path)).mean(axis=(1, 2, 3)).min() > 20 for path in tested)
    assert any((ROOT / pretraining["MODEL.PIXPRO.FLOW.FILES"]).iterdir())


def test_the_control_alone_reads_the_classes_of_the_photographs(tmp_path):
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
    data = StudyData(tmp_path, photographs=tmp_path / "photos")
    folder = os.path.relpath(tmp_path / "photos", ROOT)
    assert data.pretraining("images") == {"DATASETS.TRAIN": f'("images:{folder}",)'}
    labels = {"DATASETS.TRAIN": f'("classes:{folder}",)', "MODEL.CLASSIFIER.NUM_CLASSES": 2}
    assert data.pretraining("labels") == labels


def test_scenes_must_name_their_classes(tmp_path):
    labels = tmp_path / "train" / "labels"
    labels.mkdir(parents=True)
    data = StudyData(tmp_path, scenes=tmp_path)
    with pytest.raises(UsageError, match="train/labels has no classes.txt"):
        data.fine_tuning("scenes", "all", 0)
    (labels / "classes.txt").write_text("sky\nroad\nwater\n")
    options, root = data.fine_tuning("scenes", "all", 0), os.path.relpath(tmp_path, ROOT)
    assert options["MODEL.SEM_SEG_HEAD.NUM_CLASSES"] == 3
    assert options["DATASETS.TEST"] == f'("semseg:{root}/val/images@{root}/val/labels",)'


def _labelled(name):
    root, _, split = str(name).partition("@")
    return sorted(Path(root, "leftImg8bit", split).glob("*/*.png"))


def _pixels(path):
    return np.asarray(Image.open(path).convert("RGB"), dtype=np.float32)


def test_labelled_images_of_another_data_set_are_not_taken(tmp_path, scenes):
    write_data(tmp_path / "out", scenes, "3")
    write_data(tmp_path / "out", scenes, "3", "7")
    other = tmp_path / "other"
    render_dataset(other, train=12, test=2, size=64, layouts=("voc",))
    with pytest.raises(UsageError, match=f"cells is of another data set, {scenes}: remove it, or choose"):
        write_data(tmp_path / "out", other, "3")
