"""The picture of ground truth and detections."""

import numpy as np
import pytest
import torch
from detectron2.structures import Boxes, BoxMode, Instances
from PIL import Image

from pixpro_d2.visualization.canvas import palette
from pixpro_d2.visualization.detections import contact_sheet, draw_detections


def draw(scores, min_score=0.5, side=200):
    image = Image.new("RGB", (100, 50), (90, 90, 90))
    truth = [{"bbox": [10, 10, 30, 20], "bbox_mode": BoxMode.XYWH_ABS, "category_id": 1}]
    found = Instances((50, 100))
    found.pred_boxes = Boxes(torch.tensor([[20.0, 10.0, 60.0, 40.0]] * len(scores)))
    found.scores, found.pred_classes = torch.tensor(scores), torch.zeros(len(scores), dtype=torch.long)
    return draw_detections(image, truth, {"model": found}, ["disk", "star"], min_score, side)


def count(picture, colour):
    return int((np.abs(np.asarray(picture).astype(int) - colour).max(axis=2) < 30).sum())


def test_boxes_have_the_colour_of_their_class():
    with_box, without = draw([0.9]), draw([0.1])
    disk, star = palette(2)
    assert count(with_box, disk) > count(without, disk) + 200  # 2 px wide, 240 px around
    assert count(without, star) == count(with_box, star) > 200
    assert with_box.size == without.size == (2 * 200 + 60, with_box.height)


def test_box_lies_where_the_object_is():
    picture = np.asarray(draw([0.9])).astype(int)
    disk = np.array(palette(2)[0])
    rows, columns = np.nonzero(np.abs(picture[: 20 + 22 + 200] - disk).max(axis=2) < 30)
    # Panel 1 starts at x = 240; the image is enlarged twice and centred: its top is 50 px below the panel's.
    assert (columns.min(), columns.max()) == (pytest.approx(240 + 40, abs=2), pytest.approx(240 + 120, abs=2))
    assert (rows.min(), rows.max()) == (pytest.approx(42 + 50 + 20, abs=2), pytest.approx(42 + 50 + 80, abs=2))


def test_contact_sheet_stacks_rows():
    rows = [draw([0.9]), draw([])]
    sheet = contact_sheet(rows)
    assert sheet.size == (rows[0].width, rows[0].height + rows[1].height)
    assert np.array_equal(np.asarray(sheet)[rows[0].height :], np.asarray(rows[1]))


def test_colours_differ():
    colours = np.array(palette(20))
    distance = np.abs(colours[:, None] - colours[None]).sum(axis=2) + 1000 * np.eye(20)
    assert distance.min() > 15
