"""Pictures of the prototypes that win the pixels."""

import numpy as np
from drawn import capture, rgb, words
from PIL import Image
from slot_helpers import Q, features, method, view, whole

from pixpro_d2.modeling.pretrain.two_branch import LevelComparison
from pixpro_d2.visualization import slots
from pixpro_d2.visualization.figures import LINE, MARGIN, OPACITY, WIDTH, palette
from pixpro_d2.visualization.slots import draw_slots, picture_slots

GREY = 120
STEP = (WIDTH - MARGIN) // 2  # from the image to the segments of its only level
TOP = MARGIN + LINE


def grey(side=64):
    return Image.new("RGB", (side, side), (GREY,) * 3)


def test_bins_have_the_colour_of_their_prototype():
    """Prototype 7 wins the left column and the upper right bin of 2 x 2, prototype 30 the last bin."""
    picture = draw_slots([grey()], {"p3": np.array([[[7, 7], [7, 30]]])}, 40, "A caption.")
    assert picture.width == WIDTH
    end = STEP - MARGIN - 20
    for x, y, number in ((20, 20, 7), (end, 20, 7), (20, end, 7), (end, end, 30)):
        assert picture.getpixel((MARGIN + x, TOP + y)) == (GREY,) * 3
        expected = (1 - OPACITY) * GREY + OPACITY * rgb(palette(40)[number])
        np.testing.assert_allclose(picture.getpixel((MARGIN + STEP + x, TOP + y)), expected, atol=2)


def test_only_large_segments_have_a_number(monkeypatch):
    numbers = np.zeros((1, 10, 10), int)
    numbers[0, 0, 0], numbers[0, 9, 8:] = 3, 4  # 1 and 2 of 100 bins
    found = capture(monkeypatch)
    draw_slots([grey()], {"p3": numbers}, 5, "A caption.")
    assert [word for word in words(found[0]) if word.isdigit()] == ["0", "4"] and words(found[1]) == ["A caption."]


def test_a_number_stands_in_its_segment(monkeypatch):
    """The centre of a ring is not in the ring."""
    numbers = np.full((1, 5, 5), 1)
    numbers[0, 1:4, 1:4] = 0
    found = capture(monkeypatch)
    draw_slots([grey(50)], {"p3": numbers}, 2, "A caption.")
    inner, outer = (text.get_position() for text in found[0].axes[1].texts)
    assert tuple(inner) == (25, 25)
    assert numbers[0, int(outer[1] // 10), int(outer[0] // 10)] == 1


def test_picture_has_a_row_for_each_image_and_a_column_for_each_level(monkeypatch):
    found = capture(monkeypatch)
    numbers = {"p3": np.arange(32).reshape(2, 4, 4), "p4": np.arange(8).reshape(2, 2, 2)}
    draw_slots([grey(), grey()], numbers, 32, "A caption.")
    titles = [word for word in words(found[0]) if not word.isdigit()]
    assert titles == ["image 1", "p3, 4 x 4", "p4, 2 x 2", "image 2", "p3, 4 x 4", "p4, 2 x 2"]


def test_caption_counts_the_prototypes(monkeypatch):
    x, _ = features()
    seen = view(x, x, whole(2))
    comparison = LevelComparison((seen, seen), x, x)
    drawn = []
    monkeypatch.setattr(slots, "draw_slots", lambda *args: drawn.extend(args))
    picture_slots({"c5": comparison}, method(), [grey(), grey()], "After 5 iterations")
    images, levels, prototypes, caption = drawn
    assert len(images) == 2 and levels["c5"].shape == (2, 3, 3) and prototypes == len(Q) == 5
    count = len(np.unique(levels["c5"]))
    assert caption.startswith("After 5 iterations. ") and f"{count} at c5 of 5 prototypes" in caption
