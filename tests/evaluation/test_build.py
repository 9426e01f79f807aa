"""Evaluators by data set, and test sets that cannot be evaluated."""

import re

import pytest
import torch
from annotation_helpers import coco_object, write_coco
from data_helpers import logged
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import Boxes, BoxMode, Instances
from rendering import render_once

import configs
from pixpro_d2.data import ensure_registered
from pixpro_d2.data.datasets.catalog import load_dicts
from pixpro_d2.engine.trainer import check_test_data
from pixpro_d2.evaluation.build import build_evaluator, check_test_set
from pixpro_d2.evaluation.coco import CocoEvaluator
from pixpro_d2.evaluation.voc import VOCEvaluator
from pixpro_d2.extras.scenes.render_dataset import render_dataset
from pixpro_d2.utils.errors import UsageError

scenes = render_once(train=2, test=12, size=96)


def names(scenes):
    voc, coco = f"voc:{scenes}@test", f"coco:{scenes}/annotations/test.json@{scenes}/JPEGImages"
    ensure_registered([voc, coco])
    DatasetCatalog.get(coco)  # fills in its metadata, as a test loader does
    return {"voc": voc, "coco": coco}


def perfect_detections(dataset_dict):
    boxes = [BoxMode.convert(x["bbox"], x["bbox_mode"], BoxMode.XYXY_ABS) for x in dataset_dict["annotations"]]
    found = Instances((dataset_dict["height"], dataset_dict["width"]))
    found.pred_boxes = Boxes(torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4))
    found.pred_classes = torch.tensor([x["category_id"] for x in dataset_dict["annotations"]])
    found.scores = torch.ones(len(boxes))
    return {"instances": found}


@pytest.mark.parametrize("layout, kind", [("voc", VOCEvaluator), ("coco", CocoEvaluator)])
def test_perfect_detections_score_100(scenes, tmp_path, layout, kind):
    name = names(scenes)[layout]
    evaluator = build_evaluator(configs.tiny("OUTPUT_DIR", str(tmp_path)), name)
    assert isinstance(evaluator, kind)
    evaluator.reset()
    for dataset_dict in DatasetCatalog.get(name):
        evaluator.process([dataset_dict], [perfect_detections(dataset_dict)])
    assert evaluator.evaluate()["bbox"]["AP"] == pytest.approx(100, abs=0.1)


@pytest.mark.parametrize(("limit", "ap"), [(100, 100 * 67 / 101), (150, 100)])
def test_more_than_100_objects_of_an_image_are_counted(tmp_path, limit, ap):
    """Of 150 perfect detections COCO's AP counts 100: precision 1 at the recalls 0, 0.01, ... 0.66 of 101."""
    name = write_coco(tmp_path, [coco_object(1 + i, [3 * (i % 15), 4 * (i // 15), 3, 3]) for i in range(150)])
    ensure_registered([name])
    (image,) = load_dicts(name)
    keys = ("OUTPUT_DIR", str(tmp_path / "out"), "DATASETS.TEST", (name,), "TEST.DETECTIONS_PER_IMAGE", limit)
    cfg = configs.tiny(*keys, config="voc/faster_rcnn_R_18_FPN_small.yaml")
    with logged("pixpro_d2.evaluation") as messages:
        check_test_data(cfg)
        evaluator = build_evaluator(cfg, name)
    text = "\n".join(messages)
    assert bool(re.search("1 of 1 images of .* up to 150: set TEST.DETECTIONS_PER_IMAGE 150", text)) == (limit < 150)
    assert ("COCO's official AP counts 100" in text) == (limit > 100)
    evaluator.reset()
    evaluator.process([image], [perfect_detections(image)])
    assert evaluator.evaluate()["bbox"]["AP"] == pytest.approx(ap, abs=0.1)


def test_each_of_several_test_sets_has_a_folder_of_its_own(scenes, tmp_path):
    coco = names(scenes)["coco"]
    other = coco.replace("test.json", "train.json")
    ensure_registered([other])
    inference = f"{tmp_path}/inference"
    for tests, expected in (([coco], inference), ([coco, other], rf"{inference}/\d_[\w.-]{{,100}}JPEGImages")):
        cfg = configs.tiny("OUTPUT_DIR", str(tmp_path), "DATASETS.TEST", tests)
        with logged("pixpro_d2.evaluation.build") as messages:
            folders = [build_evaluator(cfg, name)._output_dir for name in tests]
        assert len(set(folders)) == len(tests) and all(re.fullmatch(expected, folder) for folder in folders)
        assert messages == [f"The predictions on '{name}' go to {folder}." for name, folder in zip(tests, folders)]


def test_instances_of_cityscapes_need_masks():
    """The evaluator fails at a detection without one, behind the whole training."""
    MetadataCatalog.get("some_instances").set(evaluator_type="cityscapes_instance")
    with pytest.raises(
        UsageError, match="'some_instances' of DATASETS.TEST is evaluated by masks, which the model does"
    ):
        check_test_set("some_instances", [], masks=False)


def test_keypoints_have_the_tolerances_of_the_config(scenes, tmp_path):
    cfg = configs.tiny("OUTPUT_DIR", str(tmp_path), "TEST.KEYPOINT_OKS_SIGMAS", [0.1, 0.2])
    assert tuple(build_evaluator(cfg, names(scenes)["coco"])._kpt_oks_sigmas) == (0.1, 0.2)


@pytest.mark.parametrize(
    ("architecture", "expected"), [("GeneralizedRCNN", {"bbox", "segm", "keypoints"}), ("RetinaNet", {"bbox"})]
)
def test_the_config_names_what_a_model_detects_that_detects_nothing(scenes, tmp_path, architecture, expected):
    keys = ("MODEL.MASK_ON", True, "MODEL.KEYPOINT_ON", True, "MODEL.META_ARCHITECTURE", architecture)
    evaluator = build_evaluator(configs.tiny(*keys, "OUTPUT_DIR", str(tmp_path)), names(scenes)["coco"])
    assert set(evaluator._tasks_from_predictions([])) == expected


def test_a_data_set_without_annotations(scenes):
    name = f"images:{scenes}"
    ensure_registered([name])
    with pytest.raises(UsageError, match="cannot be evaluated .evaluator type None.*coco, pascal_voc"):
        check_test_set(name, load_dicts(name), masks=False)


@pytest.mark.parametrize("cut", ["<difficult>0</difficult>", "<pose>Unspecified</pose>", "<truncated>0</truncated>"])
def test_voc_annotations_need_no_more_than_training_does(tmp_path, cut):
    render_dataset(tmp_path / "scenes", train=2, test=2, size=64, layouts=("voc",))
    for path in (tmp_path / "scenes" / "Annotations").iterdir():
        path.write_text(path.read_text().replace(cut, ""))
    name = f"voc:{tmp_path / 'scenes'}@test"
    ensure_registered([name])
    check_test_set(name, load_dicts(name), masks=False)


def test_classes_absent_from_the_test_split_are_warned_of(tmp_path, monkeypatch):
    render_dataset(tmp_path / "scenes", train=30, test=2, size=64, layouts=("voc",))
    name = f"voc:{tmp_path / 'scenes'}@test"
    ensure_registered([name])
    warned = []
    monkeypatch.setattr("pixpro_d2.evaluation.checks.logger.warning", warned.append)
    check_test_set(name, load_dicts(name), masks=False)
    classes = MetadataCatalog.get(name).thing_classes
    present = {classes[x["category_id"]] for image in DatasetCatalog.get(name) for x in image["annotations"]}
    absent = set(classes) - present
    assert absent and len(warned) == 1 and all(x in warned[0] for x in absent) and "AP leaves them out" in warned[0]
