"""Look into pictures: the figures they are rendered from, their words, and their colours."""

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.text import Text

from pixpro_d2.visualization import figures


def capture(monkeypatch):
    """Return a list that will hold each figure that is rendered."""
    found, canvas = [], figures.FigureCanvasAgg
    monkeypatch.setattr(figures, "FigureCanvasAgg", lambda figure: found.append(figure) or canvas(figure))
    return found


def words(figure):
    """The texts of a figure in their order."""
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def places(figure):
    """(text, its box (x0, y0, x1, y1) in pixels from the upper left corner) of the texts of a figure."""
    height = figures.size_of(figure)[1]
    boxes = [(text.get_text(), text.get_window_extent()) for text in figure.findobj(Text) if text.get_text()]
    return [(text, (box.x0, height - box.y1, box.x1, height - box.y0)) for text, box in boxes]


def rgb(colour):
    """A colour as three numbers in [0, 255]."""
    return 255 * np.array(to_rgb(colour))


def near(picture, colour, tolerance=30):
    """Mask of the pixels of a picture with about this colour."""
    return np.abs(np.asarray(picture).astype(float) - rgb(colour)).max(axis=2) < tolerance
