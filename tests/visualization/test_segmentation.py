"""Colouring of class ids over an image, and a segmentation beside its ground truth."""

import numpy as np
from PIL import Image

from pixpro_d2.visualization import segmentation
from pixpro_d2.visualization.canvas import MARGIN, palette
from pixpro_d2.visualization.detections import TOP
from pixpro_d2.visualization.segmentation import blend, draw_segmentation

TRUTH = np.array([[0, 0, 1, 255]] * 2).repeat(10, axis=0).repeat(10, axis=1)
NAMES = ["left", "right", "absent"]


def test_blend_colours_the_known_classes_only():
    image = Image.new("RGB", (4, 1), (100, 100, 100))
    blended = np.asarray(blend(image, np.array([[0, 1, 255, -1]]), [(200, 0, 100), (0, 0, 0)], opacity=0.5))
    assert blended.tolist() == [[[150, 50, 100], [50, 50, 50], [100, 100, 100], [100, 100, 100]]]


def test_a_picture_shows_image_and_classes_beside_each_other():
    ids = np.zeros((40, 80), dtype=np.uint8)
    ids[:, 40:] = 1
    picture = draw_segmentation(Image.new("RGB", (80, 40)), ids, ["left", "right", "absent"], side=200)
    assert picture.width == 2 * (200 + MARGIN) + MARGIN
    y = TOP + 50
    assert picture.getpixel((MARGIN + 100, y)) == (0, 0, 0)
    for x, colour in zip((50, 150), palette(3)):
        found = picture.getpixel((2 * MARGIN + 200 + x, y))
        np.testing.assert_allclose(found, 0.6 * np.array(colour), atol=2)
    legend = {colour for _, colour in picture.crop((0, TOP + 100, picture.width, picture.height)).getcolors(10**6)}
    assert palette(3)[0] in legend and palette(3)[1] in legend and palette(3)[2] not in legend


def test_nothing_but_ignored_pixels():
    assert draw_segmentation(Image.new("RGB", (8, 8)), np.full((8, 8), 255), ["a"]).height > 8


def draw(**kwargs):
    maps = {"good": np.where(TRUTH == 255, 1, TRUTH), "bad": np.zeros_like(TRUTH)}
    return draw_segmentation(Image.new("RGB", (40, 20)), TRUTH, NAMES, maps, side=200, **kwargs)


def test_titles_say_how_many_pixels_are_right(monkeypatch):
    texts = []
    monkeypatch.setattr(segmentation.Canvas, "text", lambda canvas, x, y, text, *rest: texts.append(text))
    draw()
    # 3 of 4 columns count, of which the second model has two.
    assert texts == ["image", "ground truth", "good: 100.0% right", "bad: 66.7% right", "left", "right"]


def test_panels_have_the_colours_of_the_classes():
    picture = draw()
    assert picture.width == 4 * (200 + MARGIN) + MARGIN
    left, right, _ = (0.6 * np.array(colour) for colour in palette(3))
    black = np.zeros(3)
    expected = [[black] * 4, [left, left, right, black], [left, left, right, right], [left] * 4]
    for panel, colours in enumerate(expected):
        for column, colour in enumerate(colours):
            found = picture.getpixel((MARGIN + panel * (200 + MARGIN) + 25 + 50 * column, MARGIN + 22 + 50))
            np.testing.assert_allclose(found, colour, atol=3)


def test_nothing_to_compare_with():
    truth = np.full((20, 40), 255)
    picture = draw_segmentation(Image.new("RGB", (40, 20)), truth, NAMES, {"model": truth}, side=200)
    assert picture.height > 100
