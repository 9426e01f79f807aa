"""Plot a part: a dot for each fine-tuning, fine-tunings of a pre-training side by side, and a line at the mean."""

import math
from collections.abc import Callable, Iterable, Sequence
from statistics import mean

from PIL import Image

from ...visualization.canvas import LINE, MARGIN, TEXT, Canvas, Colour, palette, text_width
from ...visualization.legend import Legend
from .comparison import Row, averages, init_title
from .experiments import Pair
from .methods import METHODS, RANDOM

WIDTH, HEIGHT = 1000, 360  # width of the picture and height of the axes, pixels
AXIS_WIDTH = 50  # pixels left of the axes, for the numbers
GRID_COLOUR = (70, 74, 82)
TITLE_SIZE = 20
MAX_STEPS = 4  # most steps of the axis between the lowest and the highest value


def plot_rows(title: str, unit: str, rows: Sequence[Row]) -> Image.Image:
    """Draw the results of a part.

    Args:
        title: title of the plot.
        unit: name of the values.
        rows: at least one row; rows of a variant stand side by side.

    Returns:
        Picture of 1000 pixels width.
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
        canvas.line((MARGIN + AXIS_WIDTH, height_of(tick)), (WIDTH - MARGIN, height_of(tick)), GRID_COLOUR)
        label = f"{tick:g}"
        canvas.text(MARGIN + AXIS_WIDTH - 10 - text_width(label), height_of(tick) - 9, label)
    _draw_columns(canvas, rows, colours, height_of, top + HEIGHT + 8)
    return canvas.finish()


def _draw_columns(
    canvas: Canvas,
    rows: Sequence[Row],
    colours: dict[str, Colour],
    height_of: Callable[[float], float],
    bottom: int,
) -> None:
    """Draw dots and means of the rows in equal columns, with wider gaps between variants and words below ``bottom``."""
    variants = list(dict.fromkeys(row.variant for row in rows))
    step = (WIDTH - 2 * MARGIN - AXIS_WIDTH) / (len(rows) + len(variants) - 1)
    x: float = MARGIN + AXIS_WIDTH
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
    """Return the offsets of fine-tunings in their column, from -1 to 1, with double gaps between pre-trainings."""
    places: list[int] = []
    last = None
    for pretraining, _ in pairs:
        step = 2 if last not in (None, pretraining) else 1
        places.append((places[-1] if places else 0) + step)
        last = pretraining
    return [2 * place / (places[-1] + 1) - 1 for place in places]


def _centred(canvas: Canvas, text: str, x: float, y: float) -> None:
    canvas.text(x - text_width(text) / 2, y, text, TEXT)


def axis_ticks(values: Sequence[float]) -> list[float]:
    """Return two or more round numbers, evenly spaced, that enclose the values."""
    low, high = min(values), max(values)
    power = 10 ** math.floor(math.log10(max((high - low) / MAX_STEPS, 0.01)))
    step = next(power * factor for factor in (1, 2, 5, 10) if high - low <= MAX_STEPS * power * factor)
    first, last = math.floor(low / step), max(math.ceil(high / step), math.floor(low / step) + 1)
    return [round(number * step, 6) for number in range(first, last + 1)]


def _heights(ticks: Sequence[float], top: int) -> Callable[[float], float]:
    """Return the function from a value to its y."""
    low, high = ticks[0], ticks[-1]
    return lambda value: top + HEIGHT * (high - value) / (high - low)
