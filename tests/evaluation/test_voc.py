"""AP on Pascal VOC annotations: detectron2's numbers where it can read them, and numbers where it cannot."""

import numpy as np
import pytest
from annotation_helpers import SIZE, detections, voc_object, write_voc
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import PascalVOCDetectionEvaluator

from pixpro_d2.data.datasets.catalog import ensure_registered
from pixpro_d2.evaluation.voc import VOCEvaluator

CLASSES = ("a", "b", "c")


def _annotate(seed, images=8):
    """Random objects (class, box, difficult) of images by name; the first image has one of each class."""
    draw = np.random.default_rng(seed)
    objects = {}
    for i in range(images):
        corners = np.sort(draw.integers(1, [[SIZE[0]], [SIZE[1]]], (4, 2, 2)), axis=-1)  # object, axis, end
        boxes = [[x0, y0, x1 + 3, y1 + 3] for (x0, x1), (y0, y1) in corners.tolist()]
        names = [*CLASSES, "a"] if i == 0 else draw.choice(CLASSES, 4).tolist()
        objects[f"i{i}"] = list(zip(names, boxes, (draw.random(4) < 0.3) & (i > 0)))
    return objects


def _write(root, objects, spell=lambda name, box, difficult: voc_object(name, box, _fields(difficult))):
    name = write_voc(root, {image_id: [spell(*found) for found in rows] for image_id, rows in objects.items()})
    ensure_registered([name])
    return name


def _fields(difficult):
    return f"<pose>Left</pose><truncated>1</truncated><difficult>{int(difficult)}</difficult>"


def _predict(objects, seed):
    """Predictions by image: the objects, shifted, some twice and some of another class, of scores that have ties."""
    draw = np.random.default_rng(seed)
    found = {}
    for image_id, rows in objects.items():
        rows = [rows[i] for i in draw.integers(0, len(rows), 6)]
        boxes = [[x0 - 1, y0 - 1, x1, y1] + draw.normal(0, 1.5, 4) for _, (x0, y0, x1, y1), _ in rows]
        classes = [CLASSES.index(name) if draw.random() < 0.8 else int(draw.integers(3)) for name, *_ in rows]
        found[image_id] = boxes, classes, draw.integers(1, 6, 6) / 5
    return found


def _evaluate(evaluator, predicted):
    evaluator.reset()
    for image_id, found in predicted.items():
        evaluator.process([{"image_id": image_id}], [detections(*found)])
    return dict(evaluator.evaluate()["bbox"])


@pytest.mark.parametrize("year", [2007, 2012])
@pytest.mark.parametrize("seed", range(3))
def test_ap_is_detectron2s(tmp_path, seed, year):
    objects = _annotate(seed)
    name = _write(tmp_path, objects)
    metadata = MetadataCatalog.get(name)
    metadata.__dict__["year"] = year  # which may be set only once
    predicted = _predict(objects, seed)
    ours, theirs = (_evaluate(kind(name), predicted) for kind in (VOCEvaluator, PascalVOCDetectionEvaluator))
    assert ours == theirs and 5 < ours["AP"] < ours["AP50"] < 95


@pytest.mark.parametrize(("folder", "ap50"), [("VOC2007", 100 * 6 / 11), ("my_data", 50)])
def test_a_folder_of_voc_2007_has_its_metric(tmp_path, folder, ap50):
    """One of two objects is found: precision 1 at the recalls 0, 0.1, ... 0.5 of eleven, or on half of the curve."""
    name = _write(tmp_path / folder, {"x": [("a", (5, 5, 20, 20), False), ("a", (25, 5, 40, 20), False)]})
    assert _evaluate(VOCEvaluator(name), {"x": ([[4, 4, 20, 20]], [0], [1.0])})["AP50"] == pytest.approx(ap50)


def test_annotations_that_detectron2_cannot_read_give_the_same(tmp_path):
    objects = _annotate(3)
    predicted = _predict(objects, 3)
    expected = _evaluate(PascalVOCDetectionEvaluator(_write(tmp_path / "whole", objects)), predicted)

    def spell(name, box, difficult):
        return voc_object(f" {name} ", [f" {x}.0 " for x in box], "<difficult> 1 </difficult>" if difficult else "")

    assert _evaluate(VOCEvaluator(_write(tmp_path / "bare", objects, spell)), predicted) == expected


def test_corners_are_not_rounded(tmp_path):
    name = _write(tmp_path, {"x": [("a", (1.25, 1.25, 10.75, 10.75), False)]})
    # The intersection over union with VOC's sides of one pixel more: (9 * 9) / (10.5 * 10.5) = 0.735.
    result = _evaluate(VOCEvaluator(name), {"x": ([[0.5, 0.5, 9.5, 9.5]], [0], [1.0])})
    assert (result["AP50"], result["AP75"], result["AP"]) == (pytest.approx(100), 0, pytest.approx(50))


@pytest.mark.parametrize("absent", [False, True])
def test_a_class_without_an_object_that_counts_is_left_out(tmp_path, absent):
    """Whether or not a detection names it: detectron2 gives 50 and NaN."""
    box = (5, 5, 20, 20)
    name = _write(tmp_path, {"x": [("a", box, False), ("b", box, True)]})
    found = [[[4, 4, 20, 20]] * 2, [0, 1], [1.0, 0.9]] if absent else [[[4, 4, 20, 20]], [0], [1.0]]
    assert _evaluate(VOCEvaluator(name), {"x": found}) == pytest.approx({"AP": 100, "AP50": 100, "AP75": 100})


def test_any_name_of_a_class_or_an_image_will_do(tmp_path):
    names = {"a": "n/a", "b": "../../up", "c": "two words"}
    objects = {
        f"sub/my {key} 1": [(names[name], box, hard) for name, box, hard in rows] for key, rows in _annotate(0).items()
    }
    name = _write(tmp_path, objects)
    classes = MetadataCatalog.get(name).thing_classes
    assert classes == sorted(names.values())
    perfect = {
        record["image_id"]: (
            [x["bbox"] for x in record["annotations"]],
            [x["category_id"] for x in record["annotations"]],
            [1.0] * len(record["annotations"]),
        )
        for record in DatasetCatalog.get(name)
    }
    assert perfect.keys() == objects.keys()
    assert _evaluate(VOCEvaluator(name), perfect)["AP"] == pytest.approx(100)
