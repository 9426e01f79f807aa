"""Rows of square panels with titles, for what a model makes of a view."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from .figures import GAP, LINE, MARGIN, TEXT, WIDTH, add_image, new_figure, shorten

SIDE = 216  # side of a panel in a row of five, pixels
STEP = LINE + SIDE + GAP  # from a row to the next, pixels


def rows_figure(rows: int) -> Figure:
    """Return a figure with room for ``rows`` rows of five panels."""
    return new_figure(WIDTH, MARGIN + rows * STEP)


def add_square(figure: Figure, row: int, column: int, image: Image.Image, title: str, colour: str = TEXT) -> Axes:
    """Show a square image in a row; coordinates are pixels of the image."""
    corner = (MARGIN + column * (SIDE + MARGIN), MARGIN + row * STEP)
    return add_image(figure, image, corner, (SIDE, SIDE), shorten(title, SIDE), colour)
