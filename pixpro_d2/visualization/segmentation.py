"""Pictures of class ids and masks over an image."""

import numpy as np
from PIL import Image

from .canvas import GAP, MARGIN, Canvas, fit, palette
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


def draw_segmentation(image, ids, class_names, side=400):
    """An image, and beside it the image coloured by class, with a legend of the classes in it.

    Args:
        image (PIL.Image.Image): RGB.
        ids (numpy.ndarray): class ids, int (height, width) of the image; ids without a name are not coloured.
        class_names (list[str]): by id.
        side (int): longer side of a panel in pixels.

    Returns:
        PIL.Image.Image: 2 * (side + MARGIN) + MARGIN pixels wide.
    """
    colours = palette(len(class_names))
    present = [i for i in np.unique(ids).tolist() if 0 <= i < len(class_names)]
    width = 2 * (side + MARGIN) + MARGIN
    legend = Legend([class_names[i] for i in present], [colours[i] for i in present], width - 2 * MARGIN)
    scale = fit(image, side, side)
    bottom = MARGIN + round(image.height * scale) + GAP
    canvas = Canvas(width, bottom + legend.height + MARGIN // 2)
    for i, panel in enumerate((image, blend(image, ids, colours))):
        canvas.paste(panel, (MARGIN + i * (side + MARGIN), MARGIN), scale)
    legend.draw(canvas, MARGIN, bottom)
    return canvas.finish()
