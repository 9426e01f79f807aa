"""Mean IoU of a test set that lacks a class."""

import math

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from pixpro_d2.evaluation.segmentation import SegmentationEvaluator

CLASSES = ["road", "car", "tram"]  # no test image shows a tram


def evaluate(tmp_path, label, predicted):
    """Results of one image, given its labels and predictions (H, W)."""
    name = f"segmentation-{tmp_path}"
    Image.fromarray(label).save(tmp_path / "label.png")
    if name not in DatasetCatalog.list():
        record = {"file_name": "image", "sem_seg_file_name": str(tmp_path / "label.png")}
        DatasetCatalog.register(name, lambda: [record])
        MetadataCatalog.get(name).set(stuff_classes=CLASSES, ignore_label=255)
    evaluator = SegmentationEvaluator(name, distributed=False)
    evaluator.reset()
    scores = torch.nn.functional.one_hot(torch.from_numpy(predicted).long(), len(CLASSES)).permute(2, 0, 1)
    evaluator.process([{"file_name": "image"}], [{"sem_seg": scores}])
    return evaluator.evaluate()["sem_seg"]


def test_one_pixel_of_an_absent_class_costs_one_pixel(tmp_path):
    label = np.repeat(np.uint8([[0], [1]]), 50, axis=1)
    predicted = label.copy()
    assert evaluate(tmp_path, label, predicted)["mIoU"] == 100
    predicted[0, 0] = 2
    found = evaluate(tmp_path, label, predicted)
    assert found["IoU-road"] == pytest.approx(98) and found["IoU-car"] == 100 and math.isnan(found["IoU-tram"])
    assert found["mIoU"] == pytest.approx(99)  # detectron2 v0.6: 66


def test_without_any_label_there_is_no_mean(tmp_path):
    empty = np.full((2, 3), 255, np.uint8)
    assert math.isnan(evaluate(tmp_path, empty, np.zeros((2, 3), np.uint8))["mIoU"])
