"""The plot: its axis, and dots at the height of their values."""

import numpy as np
import pytest
from drawn import capture, near, words

from pixpro_d2.extras.study.comparison import Row, init_title
from pixpro_d2.extras.study.methods import METHODS, RANDOM
from pixpro_d2.extras.study.plot import offsets, plot_rows
from pixpro_d2.visualization.figures import palette


def centre(picture, colour):
    """Mean row of the pixels of a colour below the legend."""
    found = near(picture, colour, 12)[90:]
    assert found.any()
    return np.nonzero(found)[0].mean()


def test_better_results_stand_higher():
    inits = (RANDOM, *METHODS)[:3]
    rows = [Row(init_title(init), "all", {(0, 0): 10.0 * (n + 1)}, {}) for n, init in enumerate(inits)]
    picture = plot_rows("Title", "AP", rows)
    assert picture.width == 1000
    low, middle, high = (centre(picture, colour) for colour in palette(3))
    assert low > middle > high
    assert low - middle == pytest.approx(middle - high, abs=2)


def test_words_say_means_and_variants(monkeypatch):
    found = capture(monkeypatch)
    rows = [Row("random", variant, {(0, 0): 10.0, (1, 0): 11.0}, {}) for variant in ("few", "all")]
    plot_rows("Title", "AP", rows)
    head, legend, plot = (words(figure) for figure in found)
    assert head == ["Title: AP"] and legend == ["random"]
    assert plot.count("10.5") >= 2 and {"few", "all"} <= set(plot)


def test_one_value_has_an_axis():
    assert plot_rows("Title", "AP", [Row("random", "all", {(0, 0): 3.0}, {})]).width == 1000


def test_fine_tunings_of_a_pretraining_stand_together():
    assert offsets([(0, 0)]) == [0.0]
    # Places 1, 2 and, behind a gap, 4 and 5 of 6.
    assert offsets([(0, 0), (0, 1), (3, 0), (3, 1)]) == pytest.approx([-2 / 3, -1 / 3, 1 / 3, 2 / 3])
