"""Colouring of class ids over an image."""

import numpy as np
from PIL import Image

from pixpro_d2.visualization.canvas import MARGIN, palette
from pixpro_d2.visualization.segmentation import blend, draw_segmentation


def test_blend_colours_the_known_classes_only():
    image = Image.new("RGB", (4, 1), (100, 100, 100))
    blended = np.asarray(blend(image, np.array([[0, 1, 255, -1]]), [(200, 0, 100), (0, 0, 0)], opacity=0.5))
    assert blended.tolist() == [[[150, 50, 100], [50, 50, 50], [100, 100, 100], [100, 100, 100]]]


def test_a_picture_shows_image_and_classes_beside_each_other():
    ids = np.zeros((40, 80), dtype=np.uint8)
    ids[:, 40:] = 1
    picture = draw_segmentation(Image.new("RGB", (80, 40)), ids, ["left", "right", "absent"], side=200)
    assert picture.width == 2 * (200 + MARGIN) + MARGIN
    y = MARGIN + 50
    assert picture.getpixel((MARGIN + 100, y)) == (0, 0, 0)
    for x, colour in zip((50, 150), palette(3)):
        found = picture.getpixel((2 * MARGIN + 200 + x, y))
        np.testing.assert_allclose(found, 0.6 * np.array(colour), atol=2)
    legend = {colour for _, colour in picture.crop((0, MARGIN + 100, picture.width, picture.height)).getcolors(10**6)}
    assert palette(3)[0] in legend and palette(3)[1] in legend and palette(3)[2] not in legend


def test_nothing_but_ignored_pixels():
    assert draw_segmentation(Image.new("RGB", (8, 8)), np.full((8, 8), 255), ["a"]).height > 8
