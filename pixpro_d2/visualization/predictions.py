"""Picture of a semantic segmentation beside its ground truth."""

import numpy as np

from .canvas import GAP, MARGIN, Canvas, fit, palette, shorten
from .detections import TOP
from .legend import Legend
from .segmentation import blend


def draw_segmentations(image, truth, predictions, class_names, ignore_label=255, side=300):
    """A row of panels: the image, ground truth, then each model's classes; a class has one colour in all of them.

    Args:
        image (PIL.Image.Image): RGB.
        truth (ndarray): class ids, int (height, width) of the image.
        predictions (dict[str, ndarray]): title to class ids, likewise.
        class_names (list[str]): by id.
        ignore_label (int): id in ``truth`` of pixels that do not count.
        side (int): longer side of a panel in pixels.

    Returns:
        PIL.Image.Image: (2 + number of predictions) * (side + MARGIN) + MARGIN pixels wide.
    """
    colours = palette(len(class_names))
    panels = [("image", image), ("ground truth", blend(image, truth, colours))]
    for title, ids in predictions.items():
        panels.append((f"{title}: {_describe(truth, ids, ignore_label)}", blend(image, ids, colours)))
    shown = np.unique([truth, *predictions.values()])
    present = [i for i in shown.tolist() if 0 <= i < len(class_names)]
    width = len(panels) * (side + MARGIN) + MARGIN
    legend = Legend([class_names[i] for i in present], [colours[i] for i in present], width - 2 * MARGIN)
    scale = fit(image, side, side)
    bottom = TOP + round(image.height * scale) + GAP
    canvas = Canvas(width, bottom + legend.height + MARGIN // 2)
    for i, (title, panel) in enumerate(panels):
        x = MARGIN + i * (side + MARGIN)
        canvas.text(x, MARGIN, shorten(title, side))
        canvas.paste(panel, (x, TOP), scale)
    legend.draw(canvas, MARGIN, bottom)
    return canvas.finish()


def _describe(truth, ids, ignore_label):
    """Share of right pixels in words."""
    counted = truth != ignore_label
    return f"{(ids == truth)[counted].mean():.1%} right" if counted.any() else "nothing to compare with"
