"""Pictures of the prototypes that win the pixels."""

import numpy as np
from PIL import Image
from slot_helpers import Q, features, method, view, whole

from pixpro_d2.modeling.pretrain.two_branch import LevelComparison
from pixpro_d2.visualization import slots
from pixpro_d2.visualization.slots import OPACITY, SIDE, WIDTH, colour_of, colour_segments, draw_slots, picture_slots

GREY = 120


def grey(side=64):
    return Image.new("RGB", (side, side), (GREY,) * 3)


def test_prototypes_have_colours_of_their_own():
    colours = [colour_of(number) for number in range(256)]
    assert len(set(colours)) > 250 and colours == [colour_of(number) for number in range(256)]
    neighbours = [np.abs(np.subtract(a, b)).max() for a, b in zip(colours, colours[1:])]
    assert min(neighbours) > 60


def test_segments_cover_the_cells_of_their_prototype():
    """Prototype 7 wins the left column and the upper right cell of 2 x 2, prototype 30 the last cell."""
    pixels = colour_segments(grey(400), np.array([[7, 7], [7, 30]]))
    assert pixels.shape == (400, 400, 3)
    for place, number in (((30, 30), 7), ((370, 30), 7), ((30, 370), 7), ((370, 370), 30)):
        expected = (1 - OPACITY) * GREY + OPACITY * np.array(colour_of(number))
        np.testing.assert_allclose(pixels[place], expected, atol=6)


def test_only_large_segments_have_a_number(monkeypatch):
    said = []
    monkeypatch.setattr(slots.Visualizer, "draw_text", lambda self, text, *args, **kwargs: said.append(text))
    numbers = np.zeros((10, 10), int)
    numbers[0, 0], numbers[9, 8:] = 3, 4  # 1 and 2 of 100 cells
    colour_segments(grey(SIDE), numbers)
    assert sorted(set(said)) == ["0", "4"]


def test_picture_has_a_row_for_each_image_and_a_column_for_each_level():
    numbers = {"p3": np.arange(32).reshape(2, 4, 4), "p4": np.arange(8).reshape(2, 2, 2)}
    picture = draw_slots([grey(), grey()], numbers, "A caption.")
    assert picture.width == WIDTH and picture.mode == "RGB"
    rows = [np.asarray(picture)[picture.height * i // 2 + 60, :, :] for i in (0, 1)]
    for row in rows:
        assert np.abs(row[150].astype(int) - GREY).max() < 3  # the image
        assert np.abs(row[550].astype(int) - GREY).max() > 20 and np.abs(row[950].astype(int) - GREY).max() > 20


def test_caption_counts_the_prototypes(monkeypatch):
    x, _ = features()
    seen = view(x, x, whole(2))
    comparison = LevelComparison((seen, seen), x, x, x)
    drawn = []
    monkeypatch.setattr(slots, "draw_slots", lambda *args: drawn.extend(args))
    picture_slots({"c5": comparison}, method(), [grey(), grey()], "After 5 iterations")
    images, levels, caption = drawn
    assert len(images) == 2 and levels["c5"].shape == (2, 3, 3) and len(Q) == 5
    count = len(np.unique(levels["c5"]))
    assert caption.startswith("After 5 iterations. ") and f"{count} at c5 of 5 prototypes" in caption
