"""Pictures of the prototypes that win the pixels of images: a segmentation that needed no label."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke
from PIL import Image

from ..modeling.pretrain.methods import SlotConMethod
from ..modeling.pretrain.two_branch import LevelComparison
from .figures import (
    LINE,
    MARGIN,
    TEXT_SIZE,
    WIDTH,
    add_image,
    contact_sheet,
    cover_classes,
    new_figure,
    palette,
    shorten,
    text_block,
    to_image,
)
from .marks import bin_boxes, centres

LEAST_NAMED = 0.02  # smallest share of the image of a segment with a number


def picture_slots(
    comparisons: Mapping[str, LevelComparison], method: SlotConMethod, images: Sequence[Image.Image], note: str
) -> Image.Image:
    """Draw which prototype wins each pixel of the first views, by the target branch.

    Args:
        comparisons: comparison of N images at each level.
        method: the model's method.
        images: the N first views.
        note: begins the caption.
    """
    levels = {level: method.segments(x.views[0]).cpu().numpy() for level, x in comparisons.items()}
    prototypes = method.prototypes.num_embeddings
    used = ", ".join(f"{len(np.unique(numbers))} at {level}" for level, numbers in levels.items())
    caption = (
        f"{note}. Pixels of one colour are won by one prototype, the same in all images and at all levels; large areas "
        f"have its number. {used} of {prototypes} prototypes win a pixel here."
    )
    return draw_slots(images, levels, prototypes, caption)


def draw_slots(
    images: Sequence[Image.Image], levels: Mapping[str, np.ndarray], prototypes: int, caption: str
) -> Image.Image:
    """Draw a row for each image: the image, then its segments at each level.

    Args:
        images: N, square, RGB.
        levels: level to the numbers of prototypes, int (N, H, W).
        prototypes: number of all prototypes; each has its own colour.
        caption: text below.

    Returns:
        A picture WIDTH pixels wide.
    """
    colours, step = palette(prototypes), (WIDTH - MARGIN) // (1 + len(levels))
    side = step - MARGIN
    figure = new_figure(WIDTH, len(images) * (LINE + step) + MARGIN)
    for i, image in enumerate(images):
        y = MARGIN + i * (LINE + step)
        add_image(figure, image, (MARGIN, y), (side, side), f"image {i + 1}")
        for column, (level, numbers) in enumerate(levels.items(), start=1):
            title = shorten(f"{level}, {numbers.shape[1]} x {numbers.shape[2]}", side)
            axes = add_image(figure, image, (MARGIN + column * step, y), (side, side), title)
            draw_segments(axes, numbers[i], colours)
    return contact_sheet([to_image(figure), text_block([caption], WIDTH)])


def draw_segments(axes: Axes, numbers: np.ndarray, colours: Sequence[str]) -> None:
    """Colour a panel by the numbers (H, W) of a grid over it, and write the numbers of large segments.

    The text is at the bin of the segment that is nearest to the segment's centre.
    """
    cover_classes(axes, numbers, colours)
    bins = centres(bin_boxes(numbers.shape, (axes.get_xlim()[1], axes.get_ylim()[0])))
    halo = [withStroke(linewidth=3, foreground="black")]
    for number in np.unique(numbers).tolist():
        own = bins[numbers.ravel() == number]
        if len(own) >= LEAST_NAMED * len(bins):
            x, y = own[np.square(own - own.mean(axis=0)).sum(axis=1).argmin()]
            axes.text(
                x, y, str(number), size=TEXT_SIZE, color="white", ha="center", va="center_baseline", path_effects=halo
            )
