"""The plot: its axis, and dots at the height of their values."""

import numpy as np
import pytest

from pixpro_d2.extras.study.comparison import Row, init_title
from pixpro_d2.extras.study.methods import METHODS, RANDOM
from pixpro_d2.extras.study.plot import axis_ticks, offsets, plot_rows
from pixpro_d2.visualization.canvas import palette


@pytest.mark.parametrize(
    ("values", "ticks"),
    [
        ([20.3, 24.9], [20, 22, 24, 26]),
        ([3.0, 3.0], [3.0, 3.01]),
        ([0.1, 98.0], [0, 50, 100]),
        ([-1.0, 1.0], [-1, -0.5, 0, 0.5, 1]),
    ],
)
def test_axis(values, ticks):
    assert axis_ticks(values) == pytest.approx(ticks)


def centre(picture, colour):
    """Mean row of the pixels of a colour below the legend."""
    near = np.abs(np.asarray(picture).astype(int)[90:] - colour).max(axis=2) < 12
    assert near.any()
    return np.nonzero(near)[0].mean()


def test_better_results_stand_higher():
    inits = (RANDOM, *METHODS)[:3]
    rows = [Row(init_title(init), "all", {(0, 0): 10.0 * (n + 1)}, {}, []) for n, init in enumerate(inits)]
    picture = plot_rows("Title", "AP", rows)
    assert picture.width == 1000
    low, middle, high = (centre(picture, colour) for colour in palette(3))
    assert low > middle > high
    assert low - middle == pytest.approx(middle - high, abs=2)


def test_fine_tunings_of_a_pretraining_stand_together():
    assert offsets([(0, 0)]) == [0.0]
    # Places 1, 2 and, behind a gap, 4 and 5 of 6.
    assert offsets([(0, 0), (0, 1), (3, 0), (3, 1)]) == pytest.approx([-2 / 3, -1 / 3, 1 / 3, 2 / 3])
