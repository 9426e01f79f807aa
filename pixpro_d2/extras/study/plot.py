"""Plot a part: a dot for each fine-tuning, fine-tunings of a pre-training side by side, and a line at the mean."""

from collections.abc import Iterable, Sequence
from statistics import mean

import numpy as np
from matplotlib.ticker import MaxNLocator
from PIL import Image

from ...visualization.figures import (
    BACKGROUND,
    MARGIN,
    TEXT,
    contact_sheet,
    legend_block,
    new_figure,
    palette,
    to_image,
)
from ...visualization.marks import draw_dots
from .comparison import Row, averages, init_title
from .experiments import Pair
from .methods import METHODS, RANDOM

WIDTH, HEIGHT = 1000, 440  # width and height of the axes with their words, pixels
GRID_COLOUR = "#464a52"
TITLE_SIZE, SIZE = 18, 13


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
    head = new_figure(WIDTH, 2 * MARGIN + TITLE_SIZE)
    head.text(MARGIN / WIDTH, 0.5, f"{title}: {unit}", color=TEXT, size=TITLE_SIZE, va="center")
    figure = new_figure(WIDTH, HEIGHT)
    axes = figure.add_axes((0.06, 0.15, 0.92, 0.8), facecolor=BACKGROUND, axisbelow=True)
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.grid(axis="y", color=GRID_COLOUR)
    axes.spines[:].set_visible(False)
    axes.tick_params(colors=TEXT, length=0, labelsize=SIZE)
    x, ticks = 0.0, {}
    for variant in dict.fromkeys(row.variant for row in rows):
        columns = [row for row in rows if row.variant == variant]
        axes.annotate(
            variant, (x + (len(columns) - 1) / 2, 0), (0, -27), xycoords=("data", "axes fraction"),
            textcoords="offset points", color=TEXT, size=SIZE, ha="center", va="top", annotation_clip=False,
        )  # fmt: skip
        for row in columns:
            average = mean(averages(row.values))
            ticks[x] = f"{average:.1f}"
            axes.hlines(average, x - 0.35, x + 0.35, color=colours[row.init], linewidth=3)
            places = [x + 0.35 * offset for offset in offsets(row.values)]
            draw_dots(axes, np.stack((places, list(row.values.values())), axis=1), colours[row.init])
            x += 1
        x += 1
    axes.set_xticks(list(ticks), list(ticks.values()))
    axes.set_xlim(-0.6, x - 1.4)
    return contact_sheet(
        [to_image(head), legend_block(inits, [colours[init] for init in inits], WIDTH), to_image(figure)]
    )


def offsets(pairs: Iterable[Pair]) -> list[float]:
    """Return the offsets of fine-tunings in their column, from -1 to 1, with double gaps between pre-trainings."""
    places: list[int] = []
    last = None
    for pretraining, _ in pairs:
        step = 2 if last not in (None, pretraining) else 1
        places.append((places[-1] if places else 0) + step)
        last = pretraining
    return [2 * place / (places[-1] + 1) - 1 for place in places]
