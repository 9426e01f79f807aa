"""Marks over panels."""

import numpy as np
import pytest
from drawn import near
from PIL import Image

from pixpro_d2.visualization import marks
from pixpro_d2.visualization.figures import add_image, add_panel, new_figure, to_image

RED, WHITE = "#ff0000", "#ffffff"


def panel(size=(100, 100)):
    figure = new_figure(*size)
    return figure, add_panel(figure, (0, 0), size)


def extent(mask):
    """(x0, y0, x1, y1) of the pixels of a mask."""
    rows, columns = np.nonzero(mask)
    return columns.min(), rows.min(), columns.max() + 1, rows.max() + 1


def test_boxes_of_bins():
    boxes = marks.bin_boxes((2, 4), (80, 80))
    assert boxes[0].tolist() == [0, 0, 20, 40] and boxes[6].tolist() == [40, 40, 60, 80]
    assert marks.centres(boxes)[6].tolist() == [50, 60]


def test_a_box_surrounds_its_corners():
    figure, axes = panel()
    marks.draw_box(axes, (10, 5, 40, 30), WHITE)
    white = near(to_image(figure), WHITE, 60)
    assert extent(white) == pytest.approx((9, 4, 41, 31), abs=1)
    assert not white[12:25, 15:35].any()
    marks.draw_box(axes, (20, 20, 20, 20), WHITE)  # an empty box is no error
    to_image(figure)


def test_dots_crosses_and_lines_stand_where_they_are_put():
    figure, axes = panel()
    marks.draw_dots(axes, np.array([[20, 30], [70, 30]]), [RED, WHITE], 5)
    marks.draw_crosses(axes, np.array([[20, 80]]), RED, 6)
    marks.draw_lines(axes, np.array([[[60, 60], [60, 90]]]), "#00ff00", 3)
    picture = to_image(figure)
    red = near(picture, RED, 60)
    assert extent(red[:50]) == pytest.approx((15, 25, 25, 35), abs=1)
    assert extent(near(picture, WHITE, 60)) == pytest.approx((65, 25, 75, 35), abs=1)
    assert red[50:][[26, 30, 34], [16, 20, 24]].all() and not red[80, 14:18].any()
    assert extent(near(picture, "#00ff00", 60)) == pytest.approx((58.5, 60, 61.5, 90), abs=2)


def test_nothing_to_mark():
    figure, axes = panel()
    before = np.asarray(to_image(figure))
    none = np.zeros((0, 2))
    marks.draw_dots(axes, none, [], 3)
    marks.draw_crosses(axes, none, RED, 3)
    marks.draw_lines(axes, np.zeros((0, 2, 2)), [])
    marks.fill_boxes(axes, np.zeros((0, 4)), [], 0.5)
    np.testing.assert_array_equal(to_image(figure), before)


def test_filled_boxes_have_their_opacity():
    figure = new_figure(40, 40 + 22)
    axes = add_image(figure, Image.new("RGB", (4, 4), (100, 100, 100)), (0, 0), (40, 40))
    marks.fill_boxes(axes, np.array([[0, 0, 2, 2], [2, 2, 4, 4]]), [RED, WHITE], 0.5)
    found = np.asarray(to_image(figure))[22:]
    np.testing.assert_allclose(found[10, 10], [177, 50, 50], atol=2)
    np.testing.assert_allclose(found[30, 30], [177, 177, 177], atol=2)
    np.testing.assert_allclose(found[10, 30], [100, 100, 100], atol=2)


@pytest.mark.parametrize("point, centre", [((50, 70), (50, 70)), ((1, 1), (11, 11)), ((99, 99), (89, 89))])
@pytest.mark.parametrize("scale", [1, 0.5])
def test_numbers_stay_inside(point, centre, scale):
    figure, axes = panel()
    axes.set(xlim=(0, 100 * scale), ylim=(100 * scale, 0))
    marks.draw_number(axes, np.multiply(point, scale), 1, RED)
    x0, y0, x1, y1 = extent(near(to_image(figure), RED, 90))
    assert ((x0 + x1) / 2, (y0 + y1) / 2) == pytest.approx(centre, abs=1)


def test_outline_surrounds_the_union():
    mask = np.zeros((4, 4), dtype=bool)
    mask[1, 1:3] = True
    figure, axes = panel((80, 80))
    marks.outline(axes, mask, WHITE, (80, 80))
    white = near(to_image(figure), WHITE, 128)
    assert white[18:22, 30].any() and white[38:42, 50].any() and white[30, 18:22].any() and white[30, 58:62].any()
    assert not white[25:35, 36:44].any()  # no line between the two bins
    assert not white[:16].any() and not white[44:].any()
