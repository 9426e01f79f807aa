"""The plot of a part: a dot for each fine-tuning, those of a pre-training side by side, and a line at the mean."""

import math
from collections.abc import Iterable
from statistics import mean

from ...visualization.canvas import LINE, MARGIN, TEXT, Canvas, palette, text_width
from ...visualization.legend import Legend
from .comparison import averages, init_title
from .experiments import Pair
from .methods import METHODS, RANDOM

WIDTH, HEIGHT = 1000, 360  # of the picture, and of the axes in it, pixels
AXIS = 50  # left of the axes, for the numbers
GRID = (70, 74, 82)
TITLE_SIZE = 20
STEPS = 4  # of the axis from the lowest to the highest value, at most


def plot_rows(title, unit, rows):
    """Draw the results of a part.

    Args:
        title (str): of the plot.
        unit (str): what the values are.
        rows (list[Row]): at least one; those of a variant stand side by side.

    Returns:
        PIL.Image.Image: 1000 pixels wide.
    """
    titles = [init_title(init) for init in (RANDOM, *METHODS)]
    colours = dict(zip(titles, palette(len(titles))))  # the same in all plots
    inits = list(dict.fromkeys(row.init for row in rows))
    legend = Legend(inits, [colours[init] for init in inits], WIDTH - 2 * MARGIN)
    top = MARGIN + 2 * LINE + legend.height + MARGIN
    canvas = Canvas(WIDTH, top + HEIGHT + 3 * LINE + MARGIN)
    canvas.text(MARGIN, MARGIN, f"{title}: {unit}", size=TITLE_SIZE)
    legend.draw(canvas, MARGIN, MARGIN + 2 * LINE)
    ticks = axis_ticks([value for row in rows for value in row.values.values()])
    height_of = _heights(ticks, top)
    for tick in ticks:
        canvas.line((MARGIN + AXIS, height_of(tick)), (WIDTH - MARGIN, height_of(tick)), GRID)
        label = f"{tick:g}"
        canvas.text(MARGIN + AXIS - 10 - text_width(label), height_of(tick) - 9, label)
    _draw_columns(canvas, rows, colours, height_of, top + HEIGHT + 8)
    return canvas.finish()


def _draw_columns(canvas, rows, colours, height_of, bottom):
    """Dots and means of the rows, an equal column for each, wider gaps between variants; words below ``bottom``."""
    variants = list(dict.fromkeys(row.variant for row in rows))
    step = (WIDTH - 2 * MARGIN - AXIS) / (len(rows) + len(variants) - 1)
    x = MARGIN + AXIS
    for variant in variants:
        columns = [row for row in rows if row.variant == variant]
        _centred(canvas, variant, x + step * len(columns) / 2, bottom + LINE)
        for row in columns:
            centre = x + step / 2
            half = min(step * 0.35, 60)
            average = mean(averages(row.values))
            canvas.line((centre - half, height_of(average)), (centre + half, height_of(average)), colours[row.init], 3)
            for offset, value in zip(offsets(row.values), row.values.values(), strict=True):
                canvas.dot((centre + half * offset, height_of(value)), colours[row.init])
            _centred(canvas, f"{average:.1f}", centre, bottom)
            x += step
        x += step


def offsets(pairs: Iterable[Pair]) -> list[float]:
    """Return where fine-tunings stand in their column, from -1 to 1; twice as far apart between pre-trainings."""
    places, last = [], None
    for pretraining, _ in pairs:
        step = 2 if last not in (None, pretraining) else 1
        places.append((places[-1] if places else 0) + step)
        last = pretraining
    return [2 * place / (places[-1] + 1) - 1 for place in places]


def _centred(canvas, text, x, y):
    canvas.text(x - text_width(text) / 2, y, text, TEXT)


def axis_ticks(values):
    """Two or more round numbers, evenly spaced, that enclose the values."""
    low, high = min(values), max(values)
    power = 10 ** math.floor(math.log10(max((high - low) / STEPS, 0.01)))
    step = next(power * factor for factor in (1, 2, 5, 10) if high - low <= STEPS * power * factor)
    first, last = math.floor(low / step), max(math.ceil(high / step), math.floor(low / step) + 1)
    return [round(number * step, 6) for number in range(first, last + 1)]


def _heights(ticks, top):
    """Function from a value to its y."""
    low, high = ticks[0], ticks[-1]
    return lambda value: top + HEIGHT * (high - value) / (high - low)
