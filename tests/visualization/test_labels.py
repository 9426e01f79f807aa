"""Labels of boxes that keep clear of each other."""

import itertools

import numpy as np
import pytest
from drawn import near, places

from pixpro_d2.visualization.figures import add_panel, new_figure, to_image
from pixpro_d2.visualization.labels import draw_labels, overlap, place_label, upright

BOUNDS = (0, 0, 200, 150)


def inside(place):
    return place[0] >= 0 and place[1] >= 0 and place[2] <= BOUNDS[2] and place[3] <= BOUNDS[3]


@pytest.mark.parametrize(
    "box, expected",
    [
        ((50, 50, 90, 90), (50, 40, 80, 50)),  # above
        ((50, 4, 90, 40), (50, 0, 80, 10)),  # pushed in, across the upper edge
        ((50, -30, 90, 40), (50, 0, 80, 10)),  # of a box that begins outside
        ((180, 50, 200, 90), (170, 40, 200, 50)),  # pushed in from the right
    ],
)
def test_a_label_lies_above_its_box_inside_the_picture(box, expected):
    assert place_label(30, 10, box, BOUNDS, []) == expected


def test_labels_of_one_place_do_not_overlap():
    taken = [(0, 0, 60, 20)]
    for _ in range(20):
        taken.append(place_label(40, 12, (20, 10, 60, 40), BOUNDS, taken))
    assert all(inside(place) for place in taken)
    assert not any(overlap(a, b) for a, b in itertools.combinations(taken, 2))


def test_a_full_picture_still_gets_its_labels():
    place = place_label(40, 12, (20, 10, 60, 40), BOUNDS, [BOUNDS])
    assert inside(place)
    assert place_label(400, 12, (20, 10, 60, 40), BOUNDS, [])[:2] == (0, 0)  # wider than the picture


def drawn(labels, avoid=(), scale=1):
    """Figure of a panel of 200 x 150 pixels, whose coordinates are pixels divided by ``scale``."""
    figure = new_figure(200, 150)
    axes = add_panel(figure, (0, 0), (200, 150))
    axes.set(xlim=(0, 200 / scale), ylim=(150 / scale, 0))
    draw_labels(axes, labels, avoid)
    return figure


def test_labels_keep_clear_of_what_they_must_avoid():
    label = [("name", (50, 50, 90, 90), "#ff0000")]
    assert near(to_image(drawn(label)), "#ff0000")[35:48, 52:60].any()
    assert not near(to_image(drawn(label, [(50, 20, 90, 50)])), "#ff0000")[20:48, 50:90].any()


@pytest.mark.parametrize("scale", [1, 4])
def test_names_stand_on_their_ground(scale):
    """In a frame that is shown at four times its size, letters and ground keep their size."""
    box = np.array((52, 60, 92, 100)) / scale
    figure = drawn([("a $price$", box, "#ffff00"), ("dark", box, "#000080")], scale=scale)
    picture = to_image(figure)
    for (_text, place), colour in zip(places(figure), ("#ffff00", "#000080")):
        rows, columns = np.nonzero(near(picture, colour))
        assert columns.min() < place[0] and columns.max() > place[2] - 1
        assert rows.min() <= place[1] + 2 and rows.max() >= place[3] - 3
        letters = np.asarray(picture)[rows.min() + 3 : rows.max() - 3, columns.min() + 4 : columns.max() - 4].astype(
            int
        )
        assert (letters.min() < 60) if colour == "#ffff00" else (letters.max() > 200)
        assert rows.max() - rows.min() in (14, 15, 16)
    assert [text for text, _ in places(figure)] == [r"a \$price\$", "dark"]


def test_crop_boxes_are_turned_upright():
    assert upright(np.array([90, 20, 10, 40])) == (10, 20, 90, 40)
