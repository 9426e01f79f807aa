"""Pictures of class ids over an image, and of a segmentation beside its ground truth."""

import numpy as np
from PIL import Image

from .canvas import GAP, MARGIN, Canvas, fit, palette, shorten
from .detections import TOP
from .legend import Legend


def blend(image, ids, colours, opacity=0.6):
    """Colour the pixels of an image by their class.

    Args:
        image (PIL.Image.Image): RGB.
        ids (numpy.ndarray): int (height, width), indices of ``colours``; other numbers leave the pixel as it is.
        colours (list[tuple]): RGB.
        opacity (float): of the colours, in [0, 1].

    Returns:
        PIL.Image.Image: of the same size.
    """
    pixels = np.asarray(image, dtype=float)
    known = (ids >= 0) & (ids < len(colours))
    colour = np.asarray(colours, dtype=float)[ids[known]]
    blended = pixels.copy()
    blended[known] += opacity * (colour - pixels[known])
    return Image.fromarray((blended + 0.5).astype(np.uint8))


def draw_segmentation(image, truth, class_names, predictions=None, ignore_label=255, side=400):
    """A row of panels: the image, ground truth, then each model's classes; a class has one colour in all of them.

    Args:
        image (PIL.Image.Image): RGB.
        truth (ndarray): class ids, int (height, width) of the image; ids without a name are not coloured.
        class_names (list[str]): by id.
        predictions (dict[str, ndarray]): title to class ids, likewise; none by default.
        ignore_label (int): id in ``truth`` of pixels that do not count.
        side (int): longer side of a panel in pixels.

    Returns:
        PIL.Image.Image: (2 + number of predictions) * (side + MARGIN) + MARGIN pixels wide.
    """
    predictions = predictions or {}
    colours = palette(len(class_names))
    panels = [("image", "", image), ("ground truth", "", blend(image, truth, colours))]
    for title, ids in predictions.items():
        panels.append((title, f": {_describe(truth, ids, ignore_label)}", blend(image, ids, colours)))
    shown = np.unique([truth, *predictions.values()])
    present = [i for i in shown.tolist() if 0 <= i < len(class_names)]
    width = len(panels) * (side + MARGIN) + MARGIN
    legend = Legend([class_names[i] for i in present], [colours[i] for i in present], width - 2 * MARGIN)
    scale = fit(image, side, side)
    bottom = TOP + round(image.height * scale) + GAP
    canvas = Canvas(width, bottom + legend.height + MARGIN // 2)
    for i, (title, said, panel) in enumerate(panels):
        x = MARGIN + i * (side + MARGIN)
        canvas.text(x, MARGIN, shorten(title, side, tail=said))
        canvas.paste(panel, (x, TOP), scale)
    legend.draw(canvas, MARGIN, bottom)
    return canvas.finish()


def _describe(truth, ids, ignore_label):
    """Share of right pixels in words."""
    counted = truth != ignore_label
    return f"{(ids == truth)[counted].mean():.1%} right" if counted.any() else "nothing to compare with"
