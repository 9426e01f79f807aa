"""What would fail in training or evaluation is told before, by check_data and by the run alike."""

import re

import pytest
from annotation_helpers import (
    SIZE,
    TURNED_RIGHT,
    coco_object,
    voc_object,
    write_cityscapes,
    write_coco,
    write_image,
    write_label,
    write_sem_seg,
    write_voc,
)
from detectron2.evaluation import verify_results

import configs
from pixpro_d2.data.datasets.catalog import ensure_registered, load_dicts
from pixpro_d2.engine import Trainer
from pixpro_d2.engine.trainer import by_task
from pixpro_d2.evaluation.build import check_test_set
from pixpro_d2.evaluation.checks import check_expected_tasks
from pixpro_d2.tools import check_data
from pixpro_d2.utils.errors import UsageError

OBJECT = coco_object(1, [2, 3, 20, 12])
STORED = SIZE[::-1]  # size of an image that its EXIF orientation turns to SIZE


def _turned(folder):
    """A COCO set whose second image is annotated as it is stored, and not as its EXIF orientation turns it."""
    name = write_coco(folder, [OBJECT], images=2)
    write_image(folder / "2.jpg", orientation=TURNED_RIGHT)
    return name


def _upright(folder):
    name = write_coco(folder, [OBJECT])
    write_image(folder / "1.jpg", STORED, TURNED_RIGHT)
    return name


def _turned_under_a_label(folder):
    name = write_sem_seg(folder, (0, 1))
    write_image(folder / "images/1.jpg", orientation=TURNED_RIGHT)
    return name


def _small_label(folder):
    name = write_sem_seg(folder, (0, 1))
    write_image(folder / "images/1.jpg", (SIZE[0] + 2, SIZE[1]))
    return name


def _coco(*objects):
    return lambda folder: write_coco(folder, list(objects))


def _voc(lines=None, **images):
    objects = {key: [voc_object(name, (1, 1, 9, 9))] for key, name in images.items()}
    return lambda folder: write_voc(folder, objects, lines)


def _cityscapes(*stems):
    return lambda folder: write_cityscapes(folder, stems)


def _two_cities(folder):
    write_cityscapes(folder, ["a_0_1"], city="a")
    return write_cityscapes(folder, ["a_0_1"], city="b")


def _label_without_an_image(folder):
    name = write_cityscapes(folder, ["a_0_1"])
    write_label(folder / "gtFine/val/a/a_0_2_gtFine_labelIds.png", (7, 8))
    return name


def _other_size(folder):
    name = write_cityscapes(folder, ["a_0_1"])
    write_image(folder / "leftImg8bit/val/a/a_0_1_leftImg8bit.png", (SIZE[0] + 2, SIZE[1]))
    return name


def _unknown_id(folder):
    name = write_cityscapes(folder, ["a_0_1"])
    write_label(folder / "gtFine/val/a/a_0_1_gtFine_labelIds.png", (7, 200))
    return name


# writer of a data set -> words of its error, "" for none
TEST_SETS = {
    "coco": (_coco(OBJECT), ""),
    "a mask is missing": (_coco(OBJECT, coco_object(2, [5, 5, 9, 9], segmentation=None)), "1.jpg has no mask"),
    "a mask is empty": (_coco(OBJECT, coco_object(2, [5, 5, 9, 9], segmentation=[])), "1.jpg has no mask"),
    "a crowd has no mask": (_coco(OBJECT, coco_object(2, [5, 5, 9, 9], segmentation=None, iscrowd=1)), ""),
    "no area": (_coco(coco_object(1, [5, 5, 9, 9], area=None, iscrowd=None)), ""),
    "nested": (_coco(coco_object(1, [5, 5, 9, 9], segmentation=[[[5, 5], [9, 5], [9, 9], [5, 9]]])), "flat numbers"),
    "no box": (_coco(OBJECT, coco_object(2, [5, 5, 9, 9], bbox=None)), "annotation 2 of image 1 has no bbox"),
    "turned": (_turned, "2.jpg is 40 x 48 pixels, its annotation says 48 x 40: if an EXIF orientation"),
    "upright": (_upright, ""),
    "label, turned": (
        _turned_under_a_label,
        "1.png is 48 x 40 pixels, its image 40 x 48: if an EXIF",
    ),
    "label of another size": (_small_label, "1.png is 48 x 40 pixels, its image 50 x 40"),
    "0 and 255": (lambda folder: write_sem_seg(folder, (0, 255)), "are 0 or 255, and 255 means that"),
    "one class": (lambda folder: write_sem_seg(folder, (1, 1)), "all pixels of all label maps have class 1"),
    "two classes": (lambda folder: write_sem_seg(folder, (0, 1, 255)), ""),
    "voc": (_voc(a="x", b="y"), ""),
    "slash": (_voc(a="n/a", b="y"), ""),
    "an image twice": (_voc(lines=["a", "b", "a 1"], a="x", b="y"), "names a 2 times"),
    "cityscapes": (_cityscapes("a_0_1", "a_0_2"), ""),
    "one part": (_cityscapes("photo"), "image photo_leftImg8bit.png cannot be evaluated: name it CITY_SEQUENCE_FRAME_"),
    "beginning": (
        _cityscapes("a_0_1", "a_0_19"),
        "the evaluation mixes up the images a_0_1_leftImg8bit.png and a_0_19_",
    ),
    "two cities": (_two_cities, "the evaluation mixes up the images a_0_1_leftImg8bit.png and a_0_1_"),
    "pattern": (_cityscapes("a[x]_0_1"), "cannot be evaluated"),
    "no image": (_label_without_an_image, "a_0_2_gtFine_labelIds.png has no image"),
    "size of labels": (_other_size, "TrainIds.png is 48 x 40 pixels, its image 50 x 40"),
    "unknown id": (_unknown_id, "labelIds.png holds 200, which is no id of Cityscapes"),
}


@pytest.mark.parametrize("kind", TEST_SETS)
def test_a_test_set_is_checked_by_the_run_and_by_check_data(tmp_path, capsys, kind):
    write, words = TEST_SETS[kind]
    name = write(tmp_path)
    error = ""
    try:
        ensure_registered([name])
        check_test_set(name, load_dicts(name), masks=True)
    except UsageError as caught:
        error = str(caught)
    with pytest.raises(SystemExit) as code:
        check_data.main([name])
    printed = capsys.readouterr().out + str(code.value)
    assert words in error and words in printed
    assert bool(error) == bool(words) and "\n" not in error
    assert (code.value.code == 0) == (not words), printed


def test_boxes_need_no_masks(tmp_path):
    name = write_coco(tmp_path, [OBJECT, coco_object(2, [5, 5, 9, 9], segmentation=[])])
    ensure_registered([name])
    check_test_set(name, load_dicts(name), masks=False)


RUN_LENGTHS = {"size": SIZE[::-1], "counts": [5, 30, SIZE[0] * SIZE[1] - 35]}
POLYGON, BITMASK = (("MODEL.MASK_ON", True, "INPUT.MASK_FORMAT", mask_format) for mask_format in ("polygon", "bitmask"))
# writer of a data set, options -> words of its error
TRAIN_SETS = {
    "turned": (_turned, (), "its annotation says 48 x 40"),
    "a mask is empty": (
        _coco(OBJECT, coco_object(2, [5, 5, 9, 9], segmentation=[])),
        POLYGON,
        "has no mask: add its segmentation, or set MODEL.MASK_ON False",
    ),
    "run lengths": (
        _coco(coco_object(1, [2, 3, 4, 4], segmentation=RUN_LENGTHS)),
        POLYGON,
        "set INPUT.MASK_FORMAT bitmask",
    ),
    "run lengths of another size": (
        _coco(coco_object(1, [2, 3, 4, 4], segmentation={**RUN_LENGTHS, "size": SIZE})),
        BITMASK,
        "has a mask of size [48, 40], but",
    ),
}


@pytest.mark.parametrize("kind", TRAIN_SETS)
def test_a_training_set_is_checked_before_the_model_is_built(tmp_path, monkeypatch, kind):
    write, opts, words = TRAIN_SETS[kind]
    name = write(tmp_path)
    ensure_registered([name])
    monkeypatch.setattr(Trainer, "build_model", lambda cfg: pytest.fail("built a model"))
    # No image is left out, so that the one without objects is looked at too.
    opts = [*opts, "MODEL.ROI_HEADS.NUM_CLASSES", 2, "DATALOADER.FILTER_EMPTY_ANNOTATIONS", False]
    cfg = configs.tiny("DATASETS.TRAIN", (name,), *opts, config="voc/faster_rcnn_R_18_FPN_small.yaml")
    with pytest.raises(UsageError) as caught:
        Trainer(cfg)
    assert words in str(caught.value) and name in str(caught.value)


def test_further_errors_are_counted(tmp_path):
    objects = [coco_object(i, [5, 5, 9, 9], segmentation=[], image_id=i) for i in (1, 2)]
    name = write_coco(tmp_path, objects, images=2)
    ensure_registered([name])
    with pytest.raises(UsageError) as caught:
        check_test_set(name, load_dicts(name), masks=True)
    assert str(caught.value).endswith(f"; `python -m pixpro_d2.tools.check_data {name}` lists all 2 errors.")


@pytest.mark.parametrize(
    ("objects", "words"),
    [
        ((), r"no image has an annotated object: there is nothing to train on, and AP is NaN\."),
        ((OBJECT, coco_object(2, [5, 5, -4, 9])), r"box \[5.0, 5.0, 1.0, 14.0\] of .*1.jpg is empty\."),
    ],
)
def test_what_an_evaluation_copes_with_is_said(tmp_path, caplog, objects, words):
    name = _coco(*objects)(tmp_path)
    ensure_registered([name])
    with caplog.at_level("WARNING"):
        check_test_set(name, load_dicts(name), masks=False)
    assert re.search(f"^Data set '{re.escape(name)}': {words}$", caplog.records[-1].getMessage())


def test_expected_results_name_tasks_of_the_evaluation():
    results = {"bbox": {"AP": 1.0}, "segm": {"AP": 1.0}}
    check_expected_tasks([["bbox", "AP", 1.0, 0.1], ["segm", "AP", 1.0, 0.1]], results)
    with pytest.raises(UsageError, match="^TEST.EXPECTED_RESULTS names box, but the evaluation gives bbox, segm: name"):
        check_expected_tasks([["box", "AP", 1.0, 0.1]], results)


def test_expected_results_of_several_test_sets_name_set_and_task():
    """In a training as in an evaluation; detectron2 would fail at them behind the training."""
    results = {"a": {"bbox": {"AP": 1.0}}, "b": {"bbox": {"AP": 2.0}}}
    cfg = configs.tiny("DATASETS.TEST", ("a", "b"), config="voc/faster_rcnn_R_18_FPN_small.yaml")
    cfg.TEST.EXPECTED_RESULTS = [["b/bbox", "AP", 2.0, 0.1]]
    assert by_task(cfg, results) == {"a/bbox": {"AP": 1.0}, "b/bbox": {"AP": 2.0}}
    assert verify_results(cfg, by_task(cfg, results))
    cfg.DATASETS.TEST = ("b",)
    assert by_task(cfg, results["b"]) == results["b"]
    with pytest.raises(UsageError, match="names bbox, but the evaluation gives a/bbox, b/bbox: name one"):
        cfg.DATASETS.TEST = ("a", "b")
        check_expected_tasks([["bbox", "AP", 1.0, 0.1]], by_task(cfg, results))
