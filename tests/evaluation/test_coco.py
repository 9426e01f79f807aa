"""AP on COCO annotations that lack what pycocotools reads: as if it were there."""

import json

import numpy as np
import pytest
from annotation_helpers import coco_object, detections, write_coco
from detectron2.data import DatasetCatalog
from detectron2.evaluation import COCOEvaluator

from pixpro_d2.data.datasets.catalog import ensure_registered, load_dicts
from pixpro_d2.evaluation.build import check_test_set
from pixpro_d2.evaluation.coco import CocoEvaluator

BOXES = [[2, 3, 20, 12], [25, 4, 10, 30], [5, 20, 15, 15]]  # x, y, width, height
CROWD = [36, 20, 10, 12]


def _objects(**keys):
    """The boxes, each with ``keys``, and a crowd."""
    objects = [coco_object(i, box, category_id=1 + i % 2, **keys) for i, box in enumerate(BOXES, start=1)]
    return [*objects, coco_object(4, CROWD, iscrowd=1)]


def _detected():
    found = [[x, y, x + width, y + height] for x, y, width, height in [*BOXES, CROWD]]
    found[1][3] -= 8  # a box that is not found at high thresholds
    return detections(found, [1, 0, 1, 0], [0.9, 0.8, 0.7, 0.95], masks=True)


def _evaluate(folder, objects, kind=CocoEvaluator, detected=None):
    name = write_coco(folder, objects)
    ensure_registered([name])
    DatasetCatalog.get(name)
    options = {"use_fast_impl": False} if kind is COCOEvaluator else {"kinds": ["bbox", "segm"]}
    evaluator = kind(name, output_dir=str(folder / "out"), **options)
    evaluator.reset()
    evaluator.process([{"image_id": 1}], [_detected() if detected is None else detected])
    results = evaluator.evaluate()
    return {task: dict(results[task]) for task in ("bbox", "segm")}


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """detectron2's results with complete annotations."""
    results = _evaluate(tmp_path_factory.mktemp("whole"), _objects(), COCOEvaluator)
    assert 60 < results["bbox"]["AP"] < results["bbox"]["AP50"] == pytest.approx(100)
    assert results["bbox"]["APs"] > 0 and np.isnan(results["bbox"]["APm"])
    return results


def _without_mask(annotation):
    return {key: value for key, value in annotation.items() if key not in ("segmentation", "area")}


@pytest.mark.parametrize(
    "objects",
    [
        _objects(),
        _objects(area=None),
        _objects(area=-1),
        _objects(area="large"),
        [{key: value for key, value in x.items() if key != "iscrowd" or value} for x in _objects()],
        [{**x, "iscrowd": str(x["iscrowd"])} for x in _objects()],
        [{**x, "id": x["id"] - 1} for x in _objects()],  # pycocotools never finds the object with the id 0
        [{**x, "id": f"object {x['id']}"} for x in _objects()],
        [*_objects()[:-1], _without_mask(_objects()[-1])],  # a crowd may be a box alone
        [{**x, "segmentation": [*x["segmentation"], [1, 2]]} for x in _objects()],  # less than a polygon
        [{**x, "segmentation": [[1, 2], *x["segmentation"]]} for x in _objects()],
    ],
    ids=[
        "whole",
        "area",
        "negative area",
        "area of text",
        "iscrowd",
        "iscrowd of text",
        "id 0",
        "id of text",
        "crowd",
        "point behind",
        "point before",
    ],
)
def test_incomplete_annotations_give_the_same(expected, tmp_path, objects):
    np.testing.assert_equal(_evaluate(tmp_path, objects), expected)


def test_an_area_is_that_of_the_mask_or_else_of_the_box(tmp_path):
    triangle = [[0, 0, 20, 0, 0, 20]]
    objects = [
        coco_object(1, [0, 0, 20, 20], segmentation=triangle, area=None),
        coco_object(2, [0, 0, 20, 20], segmentation=None, area=None),
        coco_object(3, [0, 0, 20, 20], segmentation=triangle, area=7),
    ]
    name = write_coco(tmp_path, objects)
    ensure_registered([name])
    api = CocoEvaluator(name, str(tmp_path))._coco_api
    assert [api.anns[i]["area"] for i in (1, 2, 3)] == [pytest.approx(200, abs=20), 400, 7]


def test_a_file_without_annotations_is_tested_but_not_scored(tmp_path):
    """As COCO's test-dev, whose server takes the file of predictions."""
    name = write_coco(tmp_path, [])
    content = json.loads((tmp_path / "a.json").read_text())
    del content["annotations"]
    (tmp_path / "a.json").write_text(json.dumps(content))
    ensure_registered([name])
    check_test_set(name, load_dicts(name), masks=True)
    evaluator = CocoEvaluator(name, str(tmp_path / "out"))
    evaluator.reset()
    evaluator.process([{"image_id": 1}], [detections([[2, 3, 22, 15]], [1], [0.5])])
    assert evaluator.evaluate() == {}
    (found,) = json.loads((tmp_path / "out/coco_instances_results.json").read_text())
    assert found == {"image_id": 1, "category_id": 2, "bbox": [2, 3, 20, 12], "score": 0.5}


@pytest.mark.parametrize(
    ("objects", "ap"), [(_objects(), 0), (_objects()[:1], 0), (_objects()[-1:], np.nan), ([], np.nan)]
)
def test_no_detection_is_as_bad_as_a_wrong_one(tmp_path, objects, ap):
    """AP is 0 for classes and sizes with objects, and NaN for others; crowds do not count."""
    wrong = detections([[0, 0, 1, 1]], [0], [0.9], masks=True)
    expected = _evaluate(tmp_path / "wrong", objects, COCOEvaluator, wrong)
    results = _evaluate(tmp_path / "none", objects, detected=detections([], np.zeros(0, int), [], masks=True))
    np.testing.assert_equal(results, expected)
    np.testing.assert_equal([results[task]["AP"] for task in ("bbox", "segm")], [ap, ap])
