"""The picture of ground truth and detections."""

import itertools

import numpy as np
import pytest
import torch
from detectron2.structures import Boxes, BoxMode, Instances
from drawn import capture, near, places, words
from PIL import Image

from pixpro_d2.visualization.detections import TOP, draw_detections
from pixpro_d2.visualization.figures import MARGIN, palette
from pixpro_d2.visualization.labels import overlap

TRUTH = [{"bbox": [10, 10, 30, 20], "bbox_mode": BoxMode.XYWH_ABS, "category_id": 1}]


def instances(scores, box=(20.0, 10.0, 60.0, 40.0)):
    found = Instances((50, 100))
    found.pred_boxes = Boxes(torch.tensor([box] * len(scores)).reshape(-1, 4))
    found.scores, found.pred_classes = torch.tensor(scores), torch.zeros(len(scores), dtype=torch.long)
    return found


def draw(scores, truth=TRUTH, side=200, box=(20.0, 10.0, 60.0, 40.0), **kwargs):
    image = Image.new("RGB", (100, 50), (90, 90, 90))
    return draw_detections(image, truth, {"model": instances(scores, box)}, ["disk", "star"], side=side, **kwargs)


def words_of(monkeypatch, *args, **kwargs):
    """Return the words of :func:`draw`, a list for each block: the panels, and the legend below."""
    found = capture(monkeypatch)
    draw(*args, **kwargs)
    return [words(figure) for figure in found]


def test_boxes_have_the_colour_of_their_class():
    with_box, without = draw([0.9]), draw([0.1])
    disk, star = palette(2)
    assert near(with_box, disk).sum() > near(without, disk).sum() + 200  # 2 px wide, 280 px around
    assert near(without, star).sum() == near(with_box, star).sum() > 200
    assert with_box.size == without.size == (2 * 200 + 3 * MARGIN, with_box.height)


@pytest.mark.parametrize("box", [(20.0, 10.0, 60.0, 40.0), (0.0, 0.0, 100.0, 50.0)])
def test_box_lies_where_the_object_is(box):
    picture = draw([0.9], legend=False, box=box)
    rows, columns = np.nonzero(near(picture, palette(2)[0]))
    # The image is enlarged twice; half of the outline is on either side.
    left, top = 200 + 2 * MARGIN, TOP
    assert columns.min() == pytest.approx(left + 2 * box[0] - 1, abs=1)
    assert columns.max() == pytest.approx(left + 2 * box[2], abs=1)
    assert rows.max() == pytest.approx(top + 2 * box[3], abs=1)
    assert top - 1 <= rows.min() <= top + 2 * box[1]  # the label stands above, if there is room


def test_labels_say_class_and_score_from_the_threshold_on(monkeypatch):
    panels, legend = words_of(monkeypatch, [0.5, 0.93, 0.49])
    assert panels == ["star", "disk 0.93", "disk 0.50", "ground truth: 1", "model: 2 of score 0.5 or more"]
    assert legend == ["disk", "star"]
    (panels,) = words_of(monkeypatch, [0.5, 0.93, 0.49], truth=[], min_score=0.6, legend=False)
    assert panels == ["disk 0.93", "ground truth: 0", "model: 1 of score 0.6 or more"]


def test_no_label_covers_another(monkeypatch):
    found = capture(monkeypatch)
    draw([0.9, 0.8, 0.7, 0.6], legend=False)
    labels = [box for text, box in places(found[0]) if text.startswith("disk 0")]
    assert len(labels) == 4
    assert not any(overlap(a, b) for a, b in itertools.combinations(labels, 2))


def test_nothing_found_is_a_picture_of_the_image():
    assert not near(draw([], legend=False), palette(1)[0]).any()


def test_panels_are_as_high_as_the_image():
    wide, without_legend = draw([0.9]), draw([0.9], legend=False)
    assert without_legend.height < wide.height < TOP + 200
    tall = draw_detections(Image.new("RGB", (50, 100)), [], {"a": instances([]), "b": instances([])}, ["x"], side=200)
    assert tall.size[0] == 3 * 200 + 4 * MARGIN and tall.size[1] > TOP + 200
