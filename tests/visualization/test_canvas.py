"""Text that fits, labels that keep clear of each other, lines that stay inside."""

import itertools

import numpy as np
import pytest

from pixpro_d2.visualization.canvas import BACKGROUND, Canvas, palette, shorten, text_width, wrap
from pixpro_d2.visualization.labels import draw_labels, overlap, place_label

BOUNDS = (0, 0, 200, 150)


def inside(place):
    return place[0] >= 0 and place[1] >= 0 and place[2] <= BOUNDS[2] and place[3] <= BOUNDS[3]


def test_wrapped_lines_fit_and_keep_every_word():
    text = "Shown: 12 bins of view 1, with lines to all positives in view 2. " * 3
    lines = wrap(text, 200)
    assert " ".join(lines).split() == text.split()
    assert max(text_width(line) for line in lines) <= 200
    assert wrap("unbreakable " * 2, 5) == ["unbreakable", "unbreakable"]
    assert wrap("", 100) == []


def test_shortened_text_fits():
    assert shorten("short", 100) == "short"
    said = shorten("a title that is far too long for its panel", 150, tail=": 94.2% right")
    assert said.startswith("a ti") and said.endswith("...: 94.2% right") and text_width(said) <= 150
    assert shorten("model", 150, tail=": 94.2% right") == "model: 94.2% right"
    cut = shorten("a title that is far too long for its panel", 100)
    assert cut.startswith("a title") and cut.endswith("...") and text_width(cut) <= 100


def test_colours_differ():
    for count, least in ((12, 60), (40, 8)):
        colours = np.array(palette(count), dtype=float)
        assert len(colours) == count
        distance = np.linalg.norm(colours[:, None] - colours[None], axis=2) + 1000 * np.eye(count)
        assert distance.min() > least


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


def test_labels_keep_clear_of_what_they_must_avoid():
    def draw(avoid):
        canvas = Canvas(200, 150)
        draw_labels(canvas, [("name", (50, 50, 90, 90), (255, 0, 0))], BOUNDS, avoid)
        return (np.asarray(canvas.finish()) != BACKGROUND).any(axis=2)

    assert draw([])[35:48, 52:60].any()
    assert not draw([(50, 20, 90, 50)])[20:48, 50:90].any()


def test_a_box_is_drawn_inside_its_corners():
    canvas = Canvas(60, 50)
    canvas.box((10, 5, 40, 30), (255, 255, 255), width=2)
    picture = np.asarray(canvas.finish()).astype(int)
    rows, columns = np.nonzero(np.abs(picture - BACKGROUND).max(axis=2) > 30)
    assert abs(rows.min() - 5) <= 1 and abs(rows.max() - 29) <= 1
    assert abs(columns.min() - 10) <= 1 and abs(columns.max() - 39) <= 1
    assert (np.abs(picture[15, 20] - BACKGROUND) < 5).all()  # not filled
    canvas.box((20, 20, 20, 20), (255, 255, 255))  # an empty box is no error
