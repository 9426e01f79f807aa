"""Segmentation beside its ground truth."""

import numpy as np
from PIL import Image

from pixpro_d2.visualization import predictions
from pixpro_d2.visualization.canvas import MARGIN, palette
from pixpro_d2.visualization.predictions import draw_segmentations

TRUTH = np.array([[0, 0, 1, 255]] * 2).repeat(10, axis=0).repeat(10, axis=1)
NAMES = ["left", "right", "absent"]


def draw(**kwargs):
    maps = {"good": np.where(TRUTH == 255, 1, TRUTH), "bad": np.zeros_like(TRUTH)}
    return draw_segmentations(Image.new("RGB", (40, 20)), TRUTH, maps, NAMES, side=200, **kwargs)


def test_titles_say_how_many_pixels_are_right(monkeypatch):
    texts = []
    monkeypatch.setattr(predictions.Canvas, "text", lambda canvas, x, y, text, *rest: texts.append(text))
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
    picture = draw_segmentations(Image.new("RGB", (40, 20)), truth, {"model": truth}, NAMES, side=200)
    assert picture.height > 100
