"""Pictures of class ids over an image, and of a segmentation beside its ground truth."""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from .canvas import GAP, MARGIN, Canvas, Colour, fit, palette, shorten
from .detections import TOP
from .legend import Legend


def blend(image: Image.Image, ids: np.ndarray, colours: Sequence[Colour], opacity: float = 0.6) -> Image.Image:
    """Colour the pixels of an image by their class.

    Args:
        image: RGB.
        ids: int (height, width), indices of ``colours``; a pixel with another number keeps its colour.
        colours: RGB.
        opacity: opacity of the colours, in [0, 1].

    Returns:
        A picture of the same size.
    """
    pixels = np.asarray(image, dtype=float)
    known = (ids >= 0) & (ids < len(colours))
    colour = np.asarray(colours, dtype=float)[ids[known]]
    blended = pixels.copy()
    blended[known] += opacity * (colour - pixels[known])
    return Image.fromarray((blended + 0.5).astype(np.uint8))


def draw_segmentation(
    image: Image.Image,
    truth: np.ndarray,
    class_names: Sequence[str],
    predictions: dict[str, np.ndarray] | None = None,
    ignore_label: int = 255,
    side: int = 400,
) -> Image.Image:
    """Draw a row of panels: the image, ground truth, then each model's classes; a class has one colour in all panels.

    Args:
        image: RGB.
        truth: class ids, int (height, width) of the image; ids without a name are not coloured.
        class_names: names by id.
        predictions: title to class ids, of the same form as ``truth``; none by default.
        ignore_label: id in ``truth`` of pixels that do not count.
        side: longer side of a panel in pixels.

    Returns:
        A picture (2 + number of predictions) * (side + MARGIN) + MARGIN pixels wide.
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


def _describe(truth: np.ndarray, ids: np.ndarray, ignore_label: int) -> str:
    """Describe the share of right pixels in words."""
    counted = truth != ignore_label
    return f"{(ids == truth)[counted].mean():.1%} right" if counted.any() else "nothing to compare with"
