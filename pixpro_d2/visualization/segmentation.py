"""Picture of a segmentation beside its ground truth."""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from .detections import TOP
from .figures import (
    GAP,
    MARGIN,
    add_image,
    contact_sheet,
    cover_classes,
    fit,
    legend_block,
    new_figure,
    palette,
    shorten,
    to_image,
)


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
    panels: list[tuple[str, str, np.ndarray | None]] = [("image", "", None), ("ground truth", "", truth)]
    for title, ids in predictions.items():
        panels.append((title, f": {_describe(truth, ids, ignore_label)}", ids))
    width, size = len(panels) * (side + MARGIN) + MARGIN, fit(image, side, side)
    figure = new_figure(width, TOP + size[1] + GAP)
    for i, (title, said, shown) in enumerate(panels):
        axes = add_image(figure, image, (MARGIN + i * (side + MARGIN), MARGIN), size, shorten(title, side, said))
        if shown is not None:
            cover_classes(axes, shown, colours)
    present = [i for i in np.unique([truth, *predictions.values()]).tolist() if 0 <= i < len(class_names)]
    blocks = [to_image(figure)]
    if present:
        blocks.append(legend_block([class_names[i] for i in present], [colours[i] for i in present], width))
    return contact_sheet(blocks)


def _describe(truth: np.ndarray, ids: np.ndarray, ignore_label: int) -> str:
    """Describe the share of right pixels in words."""
    counted = truth != ignore_label
    return f"{(ids == truth)[counted].mean():.1%} right" if counted.any() else "nothing to compare with"
