"""Maps of numbers in colours."""

import matplotlib
import numpy as np
from PIL import Image

from pixpro_d2.visualization.canvas import Canvas
from pixpro_d2.visualization.heat import BAR, draw_bar, enlarge, magma, overlay


def test_colours_are_magma():
    values = np.array([[0.0, 0.25, 0.5], [0.75, 1.0, 1.0]])
    expected = matplotlib.colormaps["magma"](values)[..., :3] * 255
    np.testing.assert_allclose(magma(values), expected, atol=2)


def test_numbers_beyond_the_ends_and_none_at_all():
    colours = magma(np.array([[-3.0, 7.0, np.nan]]))
    np.testing.assert_array_equal(colours, magma(np.array([[0.0, 1.0, 0.0]])))


def test_enlarged_maps_keep_their_place():
    """Of a ramp, bin centres keep their value: bin i of 4 is centred at (i + 0.5) / 4 of the side."""
    ramp = np.arange(4.0)[None].repeat(4, axis=0)
    large = enlarge(ramp, 80)
    assert large.shape == (80, 80)
    np.testing.assert_allclose(large[40, [29, 30, 49, 50]].reshape(2, 2).mean(axis=1), [1, 2], atol=0.03)
    assert enlarge(np.stack([ramp, ramp.T, ramp], axis=2), 80).shape == (80, 80, 3)
    np.testing.assert_allclose(enlarge(np.stack([ramp, ramp.T], axis=2), 80)[..., 1], large.T, atol=1e-5)


def test_overlay_mixes_picture_and_colours():
    image = Image.new("RGB", (10, 10), (200, 100, 0))
    mixed = np.asarray(overlay(image, np.ones((3, 3)), 30))
    expected = 0.4 * np.array([200, 100, 0]) + 0.6 * magma(np.ones((1, 1)))[0, 0]
    assert mixed.shape == (30, 30, 3)
    np.testing.assert_allclose(mixed, np.broadcast_to(expected, mixed.shape), atol=1)


def test_bar_runs_from_dark_to_bright():
    canvas = Canvas(400, 30)
    draw_bar(canvas, 0, 5, "", "")
    row = np.asarray(canvas.finish())[5 + 9, 8 : 8 + BAR[0]].astype(int)
    np.testing.assert_allclose(row[[2, -3]], magma(np.array([[0.0, 1.0]]))[0], atol=12)
    assert (np.diff(row[2:-2].sum(axis=1)) >= 0).all()
