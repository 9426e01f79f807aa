"""The number of classes: whose it is, where it was set last."""

import shutil

import cli
import pytest
from annotation_helpers import write_sem_seg
from detectron2.modeling import build_model
from stream_helpers import write_boxes

import configs
from pixpro_d2.checkpoint import PixProCheckpointer
from pixpro_d2.data.datasets.catalog import ensure_registered
from pixpro_d2.data.downstream.tasks import check_classes
from pixpro_d2.engine.configuration.class_count import resolve_class_count
from pixpro_d2.engine.configuration.configure import load_config
from pixpro_d2.extras.scenes.render_dataset import render_dataset

VOC, COCO = "voc/faster_rcnn_R_50_FPN_24k", "coco/retinanet_R_50_FPN_1x"
RECIPES = [path for path in configs.CONFIGS.glob("*/**/[!B]*.yaml") if path.parent.name != "init"]


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    """Objects of 5 classes in several layouts; 6 classes of pixels."""
    out = tmp_path_factory.mktemp("classes") / "scenes"
    render_dataset(out, train=2, test=2, size=64)
    for name in "abcd":
        shutil.copytree(out / "JPEGImages", out / "train" / name)
    return out


def resolved(config, *opts, data_key="DATASETS.TRAIN"):
    """(sentence, config) of a command line."""
    cfg = load_config(config, opts)
    ensure_registered([*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST])
    return resolve_class_count(cfg, config, opts[::2], data_key), cfg


@pytest.mark.parametrize(
    ("config", "data", "node", "number"),
    [
        (VOC, "voc:{}@train", "ROI_HEADS", 5),
        (COCO, "coco:{0}/annotations/train.json@{0}/JPEGImages", "RETINANET", 5),
        ("coco/fcos_R_50_FPN_1x", "voc:{}@train", "FCOS", 5),
        ("voc/fcn_R_50_30k", "voc_seg:{}@train", "SEM_SEG_HEAD", 6),
        ("semseg/fpn_R_18_small", "semseg:{0}/JPEGImages@{0}/SegmentationClass", "SEM_SEG_HEAD", 6),
        ("classification/resnet_R_18_small", "classes:{}/train", "CLASSIFIER", 4),
    ],
)
def test_data_of_the_command_line_bring_their_number(scenes, config, data, node, number):
    name = data.format(scenes)
    sentence, cfg = resolved(config, "DATASETS.TRAIN", name)
    assert number == cfg.MODEL[node].NUM_CLASSES
    assert sentence == f"MODEL.{node}.NUM_CLASSES is {number}, the number of classes of data set '{name}'."


def test_a_number_of_the_command_line_stays(scenes):
    sentence, cfg = resolved(VOC, "DATASETS.TRAIN", f"voc:{scenes}@train", "MODEL.ROI_HEADS.NUM_CLASSES", "7")
    assert (sentence, cfg.MODEL.ROI_HEADS.NUM_CLASSES) == ("", 7)


def test_no_recipe_changes_on_its_own_data():
    for config in RECIPES:
        cfg = load_config(str(config), [])
        before = cfg.clone()
        for data_key in ("DATASETS.TRAIN", "DATASETS.TEST"):
            assert resolve_class_count(cfg, str(config), [], data_key) == "", config
        assert cfg == before, config


@pytest.mark.parametrize(("own", "expected"), [("", 5), ("MODEL: {ROI_HEADS: {NUM_CLASSES: 3}}", 3)])
def test_a_file_that_names_other_data_than_its_base(own, expected, scenes, tmp_path):
    """The base's number is of the base's data; a number beside the data is of these."""
    path = tmp_path / "mine.yaml"
    path.write_text(f"_BASE_: {VOC}.yaml\nDATASETS: {{TRAIN: ['voc:{scenes}@train']}}\n{own}\n")
    sentence, cfg = resolved(str(path))
    assert expected == cfg.MODEL.ROI_HEADS.NUM_CLASSES and bool(sentence) == (expected == 5)
    above = tmp_path / "above.yaml"
    above.write_text("_BASE_: mine.yaml\nSOLVER: {MAX_ITER: 3}\n")
    assert expected == resolved(str(above))[1].MODEL.ROI_HEADS.NUM_CLASSES


def test_an_evaluation_takes_the_number_of_its_data(scenes):
    sentence, cfg = resolved(VOC, "DATASETS.TEST", f"voc:{scenes}@test", data_key="DATASETS.TEST")
    assert cfg.MODEL.ROI_HEADS.NUM_CLASSES == 5 and sentence
    _, cfg = resolved(VOC, "DATASETS.TEST", f"voc:{scenes}@test")
    assert cfg.MODEL.ROI_HEADS.NUM_CLASSES == 20  # a training's data are still VOC's


def test_a_run_keeps_its_number_where_the_test_labels_lack_its_highest_class(tmp_path):
    train, test = write_sem_seg(tmp_path / "train", (0, 1, 2, 5)), write_sem_seg(tmp_path / "test", (0, 1, 4))
    config = tmp_path / "run" / "config.yaml"
    config.parent.mkdir()
    cfg = configs.tiny("DATASETS.TRAIN", (train,), "MODEL.SEM_SEG_HEAD.NUM_CLASSES", 6, config="voc/fcn_R_50_30k.yaml")
    config.write_text(cfg.dump())
    weights = [("MODEL.WEIGHTS", str(tmp_path / folder / "model_final.pth")) for folder in ("other", "run")]
    for of_run, number in ((weights[0], 5), (weights[1], 6), (("OUTPUT_DIR", str(config.parent)), 6)):
        options = ("DATASETS.TEST", test, *of_run)
        sentence, cfg = resolved(str(config), *options, data_key="DATASETS.TEST")
        assert number == cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES and bool(sentence) == (number == 5)
        check_classes(cfg, [test])


def test_data_without_labels_leave_the_number_to_the_check_of_labels(scenes):
    assert resolved(VOC, "DATASETS.TRAIN", f"images:{scenes}")[0] == ""
    assert resolved("pretrain/quickstart", "DATASETS.TRAIN", f"images:{scenes}")[0] == ""


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (
            list("abcde"),
            "Class 0 is 'a' in the training that wrote .*model_final.pth, but 'class 0' in the data",
        ),
        (None, "model_final.pth .*(roi_heads|box_predictor)"),
    ],
)
def test_an_evaluation_needs_the_classes_of_its_checkpoint(classes, message, tmp_path):
    """Data of 2 classes for a detector of 5, whose checkpoint names its classes or does not."""
    name, detector = write_boxes(tmp_path / "boxes", 2), "voc/faster_rcnn_R_18_FPN_small.yaml"
    model = build_model(configs.tiny("MODEL.ROI_HEADS.NUM_CLASSES", 5, config=detector))
    PixProCheckpointer(model, str(tmp_path), classes=classes).save("model_final")
    words = ["--eval-only", "--config-file", f"configs/{detector}", *configs.TINY_DETECTOR, "DATASETS.TEST", name]
    with pytest.raises(SystemExit, match=f"^error: .*{message}"):
        cli.run_here(*words, "MODEL.WEIGHTS", tmp_path / "model_final.pth", "OUTPUT_DIR", tmp_path / "out")
