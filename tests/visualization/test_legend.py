"""The legend of a picture."""

import numpy as np

from pixpro_d2.visualization.canvas import BACKGROUND, LINE, Canvas, palette, text_width
from pixpro_d2.visualization.legend import SWATCH, Legend


def test_names_wrap_within_the_width():
    names = [f"class number {i}" for i in range(20)] + ["w" * 200]
    legend = Legend(names, palette(21), 300)
    assert len(legend.places) == 21
    assert all(x + text_width(name) <= 300 for name, x, _ in legend.places)
    lines = [line for *_, line in legend.places]
    assert lines == sorted(lines) and legend.height == (lines[-1] + 1) * LINE
    assert len({(x, line) for _, x, line in legend.places}) == 21


def test_each_name_has_a_square_of_its_colour_before_it():
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    legend = Legend(["one", "two", "a third name"], colours, 150)
    assert [line for *_, line in legend.places] == [0, 0, 1]
    canvas = Canvas(200, 80)
    legend.draw(canvas, 10, 20)
    picture = canvas.finish()
    for (_, x, line), colour in zip(legend.places, colours):
        assert picture.getpixel((10 + x + SWATCH // 2, 20 + line * LINE + 9)) == colour
    assert np.any(np.asarray(picture)[20 + LINE :, 10 + SWATCH + 6 :] != BACKGROUND)  # the name of the second line


def test_nothing_to_name():
    legend = Legend([], [], 300)
    assert (legend.places, legend.height) == ([], 0)
