"""Colouring of class ids over an image, and a segmentation beside its ground truth."""

import numpy as np
from drawn import capture, near, rgb, words
from PIL import Image

from pixpro_d2.visualization.detections import TOP
from pixpro_d2.visualization.figures import MARGIN, palette
from pixpro_d2.visualization.segmentation import draw_segmentation

TRUTH = np.array([[0, 0, 1, 255]] * 2).repeat(10, axis=0).repeat(10, axis=1)
NAMES = ["left", "right", "absent"]


def test_only_known_classes_are_coloured():
    image = Image.new("RGB", (4, 1), (100, 100, 100))
    picture = draw_segmentation(image, np.array([[0, 1, 255, -1]]), NAMES[:2], side=400)
    found = np.asarray(picture)[TOP + 50, 400 + 2 * MARGIN + 50 :: 100][:4]
    expected = [0.4 * 100 + 0.6 * rgb(colour) for colour in palette(2)]
    np.testing.assert_allclose(found, [*expected, [100] * 3, [100] * 3], atol=2)


def test_single_pixels_are_shown():
    """Every pixel of a map that is enlarged by 4 keeps its own colour."""
    ids = np.random.default_rng(0).integers(0, 3, (50, 50))
    picture = draw_segmentation(Image.new("RGB", (50, 50)), ids, NAMES, side=200)
    found = np.asarray(picture)[TOP : TOP + 200, 200 + 2 * MARGIN :][2:200:4, 2:200:4][:, :50].astype(int)
    expected = np.stack([0.6 * rgb(colour) for colour in palette(3)])
    assert (np.abs(found[:, :, None] - expected).sum(axis=3).argmin(axis=2) == ids).all()


def test_a_picture_shows_image_and_classes_beside_each_other():
    ids = np.zeros((40, 80), dtype=np.uint8)
    ids[:, 40:] = 1
    picture = draw_segmentation(Image.new("RGB", (80, 40)), ids, ["left", "right", "absent"], side=200)
    assert picture.width == 2 * (200 + MARGIN) + MARGIN
    y = TOP + 50
    assert picture.getpixel((MARGIN + 100, y)) == (0, 0, 0)
    for x, colour in zip((50, 150), palette(3)):
        found = picture.getpixel((2 * MARGIN + 200 + x, y))
        np.testing.assert_allclose(found, 0.6 * rgb(colour), atol=2)
    legend = picture.crop((0, TOP + 100, picture.width, picture.height))
    assert [near(legend, colour, 5).any() for colour in palette(3)] == [True, True, False]


def test_nothing_but_ignored_pixels():
    assert draw_segmentation(Image.new("RGB", (8, 8)), np.full((8, 8), 255), ["a"]).height > 8


def draw(**kwargs):
    maps = {"good": np.where(TRUTH == 255, 1, TRUTH), "bad": np.zeros_like(TRUTH)}
    return draw_segmentation(Image.new("RGB", (40, 20)), TRUTH, NAMES, maps, side=200, **kwargs)


def test_titles_say_how_many_pixels_are_right(monkeypatch):
    found = capture(monkeypatch)
    draw()
    # 3 of 4 columns count, of which the second model has two.
    assert words(found[0]) == ["image", "ground truth", "good: 100.0% right", "bad: 66.7% right"]
    assert words(found[1]) == ["left", "right"]


def test_panels_have_the_colours_of_the_classes():
    picture = draw()
    assert picture.width == 4 * (200 + MARGIN) + MARGIN
    left, right, _ = (0.6 * rgb(colour) for colour in palette(3))
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
