"""Data sets without the labels of a task, or of other classes, are refused before a model is built."""

import json
import shutil

import pytest
from annotation_helpers import write_sem_seg
from data_helpers import logged, make_cfg, write_images
from detectron2.data import DatasetCatalog, MetadataCatalog
from rendering import render_once
from stream_helpers import write_boxes

from pixpro_d2.data.datasets.catalog import SCHEMES, ensure_registered, load_dicts
from pixpro_d2.data.downstream.tasks import (
    BOXES,
    CATEGORIES,
    LABEL_MAPS,
    TASKS,
    check_classes,
    check_labels,
    check_masks,
    check_same_classes,
    class_names,
    labels_of,
)
from pixpro_d2.engine.trainer import Trainer, check_test_data
from pixpro_d2.utils.errors import UsageError

ADDRESSES = {
    "images": "images:{}/JPEGImages",
    "voc": "voc:{}@train",
    "coco": "coco:{0}/annotations/train.json@{0}/JPEGImages",
    "semseg": "semseg:{0}/JPEGImages@{0}/SegmentationClass",
    "voc_seg": "voc_seg:{}@train",
    "cityscapes": "cityscapes:{}@train",
    "cityscapes_instance": "cityscapes_instance:{}@train",
    "classes": "classes:{}/train",
    "video": "video:{}/leftImg8bit/train",  # a city is a folder of frames
}
DETECTORS = ("GeneralizedRCNN", "RetinaNet", "FCOSDetector")
GOOD = {
    "images": (),
    "voc": DETECTORS,
    "coco": DETECTORS,
    "semseg": ("SemanticSegmentor",),
    "voc_seg": ("SemanticSegmentor",),
    "cityscapes": ("SemanticSegmentor",),
    "cityscapes_instance": DETECTORS,
    "classes": ("LinearClassifier", "KNNClassifier"),
    "video": (),
}
WORDS = {**dict.fromkeys(DETECTORS, "boxes"), "SemanticSegmentor": "label maps"}

scenes = render_once(train=3, test=2, size=64, layouts=["voc", "coco", "cityscapes", "classes"])


def registered(*names):
    ensure_registered(names)
    return names


def task_cfg(task, train=(), test=(), **keys):
    return make_cfg(*train, DATASETS__TEST=tuple(test), MODEL__META_ARCHITECTURE=task, **keys)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_each_task_with_each_kind_of_data_set(scenes, scheme):
    (name,) = registered(ADDRESSES[scheme].format(scenes))
    dicts = load_dicts(name)
    check_labels(task_cfg("PixPro"), "here", dicts)
    refused = []
    for task in TASKS:
        try:
            check_labels(task_cfg(task), "here", dicts)
        except UsageError as error:
            words = WORDS.get(task, "classes")
            assert f"here has no {words} for {dicts[0]['file_name']}, but {task} needs them: name" in str(error)
            refused.append(task)
    assert refused == [task for task in TASKS if task not in GOOD[scheme]]


@pytest.mark.parametrize("task", TASKS)
def test_images_without_labels_are_refused_in_training_and_testing(tmp_path, task):
    write_images(tmp_path, 2)
    names = registered(f"images:{tmp_path}")
    sentence = rf"has no .* for {tmp_path}/000.png, but {task} needs them"
    with pytest.raises(UsageError, match=rf"^DATASETS.TRAIN \('images:{tmp_path}',\) {sentence}"):
        Trainer.build_train_loader(task_cfg(task, names))
    with pytest.raises(UsageError, match=f"^Data set 'images:{tmp_path}' of DATASETS.TEST {sentence}"):
        check_test_data(task_cfg(task, test=names))


def test_one_image_without_labels(tmp_path):
    """Joined to a data set with boxes, where detectron2 fails by a KeyError."""
    write_images(tmp_path / "images", 1)
    names = registered(write_boxes(tmp_path / "boxes", 2), f"images:{tmp_path}/images")
    with pytest.raises(UsageError, match=f"no boxes for {tmp_path}/images/000.png"):
        Trainer.build_train_loader(task_cfg("RetinaNet", names, MODEL__RETINANET__NUM_CLASSES=2))


@pytest.mark.parametrize("key, words", [("MASK_ON", "masks"), ("KEYPOINT_ON", "keypoints")])
def test_boxes_alone_do_for_no_masks(scenes, tmp_path, key, words):
    boxes, masks = registered(write_boxes(tmp_path / "boxes", 2), ADDRESSES["coco"].format(scenes))
    keys = {"MODEL__ROI_HEADS__NUM_CLASSES": 2, f"MODEL__{key}": True}
    with pytest.raises(UsageError, match=rf"^DATASETS.TRAIN .* has boxes without {words}: set MODEL.{key} False"):
        Trainer.build_train_loader(task_cfg("GeneralizedRCNN", [boxes], **keys))
    with pytest.raises(UsageError, match=f"of DATASETS.TEST has boxes without {words}"):
        check_test_data(task_cfg("GeneralizedRCNN", test=[boxes], **keys))
    check_masks(task_cfg("GeneralizedRCNN", MODEL__MASK_ON=True), "here", load_dicts(masks))
    check_masks(task_cfg("RetinaNet", **keys), "here", [{"annotations": []}])
    # VOC's evaluation looks at boxes alone, whatever a detector predicts beside them.
    check_test_data(task_cfg("GeneralizedRCNN", test=registered(f"voc:{scenes}@train"), MODEL__MASK_ON=True))


def renamed_voc(scenes, folder):
    for path in (folder / "Annotations").iterdir():
        path.write_text(path.read_text().replace("<name>", "<name>x"))
    return f"voc:{scenes}@train", f"voc:{folder}@train"


def renamed_coco(scenes, folder):
    path = folder / "annotations" / "train.json"
    content = json.loads(path.read_text())
    for category in content["categories"]:
        category["name"] = f"x{category['name']}"
    path.write_text(json.dumps(content))
    return ADDRESSES["coco"].format(scenes), ADDRESSES["coco"].format(folder)


def renamed_classes(scenes, folder):
    for path in list((folder / "train").iterdir()):
        path.rename(path.parent / f"x{path.name}")
    return f"classes:{scenes}/train", f"classes:{folder}/train"


def renamed_voc_seg(scenes, folder):
    names = (folder / "classes.txt").read_text()
    (folder / "classes.txt").write_text(names.replace("background", "xbackground"))
    return f"voc_seg:{scenes}@train", f"voc_seg:{folder}@train"


def renamed_semseg(scenes, folder):
    names = (folder / "classes.txt").read_text()
    addresses = []
    for name, text in (("masks", names), ("others", f"x{names}")):
        shutil.copytree(folder / "SegmentationClass", folder / name)
        (folder / name / "classes.txt").write_text(text)
        addresses.append(f"semseg:{folder}/JPEGImages@{folder}/{name}")
    return addresses


# what renames the classes of a copy -> (task, node with its NUM_CLASSES, number of classes)
RENAMED = {
    renamed_voc: ("GeneralizedRCNN", "ROI_HEADS", 5),
    renamed_coco: ("RetinaNet", "RETINANET", 5),
    renamed_classes: ("LinearClassifier", "CLASSIFIER", 5),
    renamed_voc_seg: ("SemanticSegmentor", "SEM_SEG_HEAD", 6),
    renamed_semseg: ("SemanticSegmentor", "SEM_SEG_HEAD", 6),
}


@pytest.mark.parametrize("rename", RENAMED)
def test_classes_of_other_names(scenes, tmp_path, rename):
    """Of equal number, so that only the names tell that the data sets do not belong together."""
    folder = tmp_path / "copy"
    shutil.copytree(scenes, folder)
    train, test = registered(*rename(scenes, folder))
    task, node, number = RENAMED[rename]
    keys = {f"MODEL__{node}__NUM_CLASSES": number}
    sentence = rf"^Class 0 is '(\w+)' in data set '{train}', but 'x\1' in data set '{test}': .*same classes in the same"
    cfg = task_cfg(task, [train], [test], **keys)
    check_test_data(cfg)
    with pytest.raises(UsageError, match=sentence):
        Trainer.build_train_loader(cfg)
    cfg.MODEL.WEIGHTS = "weights.pth"
    with pytest.raises(UsageError, match=sentence):  # an evaluation alone
        Trainer.evaluate(cfg)
    with pytest.raises(UsageError, match=sentence):  # joined
        Trainer.build_train_loader(task_cfg(task, [train, test], **keys))
    Trainer.build_train_loader(task_cfg(task, [train, train], [train], **keys))


def test_a_class_more(tmp_path):
    write_images(tmp_path / "train" / "a", 1)
    shutil.copytree(tmp_path / "train", tmp_path / "test")
    write_images(tmp_path / "test" / "b", 1)
    train, test = registered(f"classes:{tmp_path}/train", f"classes:{tmp_path}/test")
    for first, second, words in ((train, test, "missing .*, but 'b'"), (test, train, "'b' .*, but missing")):
        with pytest.raises(UsageError, match=f"Class 1 is {words} in data set '{second}'"):
            Trainer.build_train_loader(task_cfg("LinearClassifier", [first], [second]))


def test_data_of_a_training_need_not_be_there_in_an_evaluation(tmp_path):
    """A model of one class is evaluated with a config that still names VOC's 20 classes for training."""
    name = write_boxes(tmp_path / "boxes", 2)
    (test,) = registered(name)
    cfg = task_cfg("RetinaNet", ["voc_2007_trainval"], [test], MODEL__RETINANET__NUM_CLASSES=3)
    cfg.MODEL.WEIGHTS = "weights.pth"
    with pytest.raises(UsageError, match="RETINANET.NUM_CLASSES is 3, but data set 'coco:.*' has 2 classes"):
        Trainer.evaluate(cfg)


@pytest.mark.parametrize(("sides", "is_told"), [((20, 80), False), ((60, 80), True), ((8, 16), True)])
def test_test_images_of_another_scale_than_in_training_are_named(tmp_path, sides, is_told):
    """As those of a camera with the recipe for VOC, whose images have a shorter side of about 375 pixels."""
    (name,) = registered(write_sem_seg(tmp_path, (0, 1)))  # 48 x 40 pixels
    cfg = task_cfg("SemanticSegmentor", test=[name], INPUT__MIN_SIZE_TRAIN=sides, INPUT__MIN_SIZE_TEST=0)
    with logged("pixpro_d2.evaluation.checks") as messages:
        check_test_data(cfg)
    told = [x for x in messages if "have a shorter side of 40 pixels" in x and "INPUT.MIN_SIZE_TRAIN '(20, 80)'" in x]
    assert len(told) == is_told


def test_classes_that_one_split_lacks_need_names(tmp_path):
    """Without a classes.txt the classes are counted, and no NUM_CLASSES is that of both splits."""
    names = registered(write_sem_seg(tmp_path / "train", (0, 3)), write_sem_seg(tmp_path / "val", (0, 2)))
    for name in names:
        load_dicts(name)
    for number, wrong, highest in ((4, names[1], 2), (3, names[0], 3)):
        cfg = task_cfg("SemanticSegmentor", MODEL__SEM_SEG_HEAD__NUM_CLASSES=number)
        sentence = (
            f"The highest class in the labels of '{wrong}' is {highest}, .* is {number}: .*name all classes in a cl"
        )
        with pytest.raises(UsageError, match=sentence):
            check_classes(cfg, names)


def test_numbers_are_no_names(tmp_path, scenes):
    """Labels without a classes.txt agree with those that have one."""
    shutil.copytree(scenes / "SegmentationClass", tmp_path / "named")
    shutil.copy(scenes / "classes.txt", tmp_path / "named")
    folders = tmp_path / "named", scenes / "SegmentationClass"
    names = registered(*(f"semseg:{scenes}/JPEGImages@{folder}" for folder in folders))
    for name in names:
        load_dicts(name)
    assert MetadataCatalog.get(names[1]).stuff_classes[0] == "0"
    check_same_classes(LABEL_MAPS, names)


@pytest.mark.parametrize(
    "name", ["coco_2017_val", "cityscapes_fine_sem_seg_val", "voc_2007_test", "ade20k_sem_seg_val"]
)
def test_built_in_data_sets_that_are_not_there(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    folder = rf"put its files into {tmp_path}/datasets, or set DETECTRON2_DATASETS to the folder that holds them\.$"
    with pytest.raises(UsageError, match=rf"^Data set '{name}' cannot be loaded \(.*\): {folder}"):
        load_dicts(name)


def test_other_data_sets_that_cannot_be_loaded(tmp_path):
    (tmp_path / "datasets").mkdir()
    name = f"a registered one of {tmp_path}"
    DatasetCatalog.register(name, (tmp_path / "datasets" / "none.json").read_text)
    with pytest.raises(UsageError, match=rf"^Data set '{name}' cannot be loaded \(.*none.json'\)\.$"):
        load_dicts(name)


def test_the_names_of_the_classes(scenes):
    voc, images, labels = registered(*(ADDRESSES[key].format(scenes) for key in ("voc", "images", "voc_seg")))
    load_dicts(labels)
    assert class_names(task_cfg("RetinaNet"), [voc]) == list(MetadataCatalog.get(voc).thing_classes)
    assert class_names(task_cfg("PixPro"), [voc]) is None
    assert class_names(task_cfg("RetinaNet"), [images]) is None
    assert class_names(task_cfg("SemanticSegmentor"), [labels]) == list(MetadataCatalog.get(labels).stuff_classes)


def test_a_classification_needs_two_classes(tmp_path):
    write_images(tmp_path / "only", 2)
    (name,) = registered(f"classes:{tmp_path}")
    cfg = task_cfg("LinearClassifier", MODEL__CLASSIFIER__NUM_CLASSES=1)
    with pytest.raises(UsageError, match=f"^Data set '{name}' has one class, which leaves nothing to tell apart: add"):
        check_classes(cfg, [name])


def test_labels_of_an_image():
    image = {"file_name": "a.jpg"}
    assert labels_of(image) is None
    for key, kind in (("category_id", CATEGORIES), ("annotations", BOXES), ("sem_seg_file_name", LABEL_MAPS)):
        image[key] = 0
        assert labels_of(image) is kind
