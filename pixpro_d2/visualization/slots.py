"""Pictures of the prototypes that win the pixels of images: a segmentation that needed no label."""

import colorsys
import io
import math
import textwrap
from collections.abc import Mapping, Sequence

import numpy as np
from detectron2.data.catalog import Metadata
from detectron2.utils.visualizer import Visualizer
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from ..modeling.pretrain.methods import SlotConMethod
from ..modeling.pretrain.two_branch import LevelComparison

WIDTH = 1200  # pixels of a picture
SIDE = 360  # pixels of an image that the segments are drawn on, at least
OPACITY = 0.6
LEAST_NAMED = 0.02  # share of the image that a segment with a number has
DPI = 100


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
    used = ", ".join(f"{len(np.unique(numbers))} at {level}" for level, numbers in levels.items())
    caption = (
        f"{note}. Pixels of one colour are won by one prototype, the same in all images and at all levels; large areas "
        f"have its number. {used} of {method.prototypes.num_embeddings} prototypes win a pixel here."
    )
    return draw_slots(images, levels, caption)


def draw_slots(images: Sequence[Image.Image], levels: Mapping[str, np.ndarray], caption: str) -> Image.Image:
    """Draw a row for each image: the image, then its segments at each level.

    Args:
        images: N, square, RGB.
        levels: level to the numbers of prototypes, int (N, H, W).
        caption: text below.

    Returns:
        A picture WIDTH pixels wide.
    """
    columns, lines = 1 + len(levels), textwrap.wrap(caption, 200)
    panel = WIDTH / columns / DPI
    height = len(images) * panel + 0.2 * (len(lines) + 1)
    figure = Figure(figsize=(WIDTH / DPI, height), dpi=DPI)
    axes = figure.subplots(len(images), columns, squeeze=False)
    figure.subplots_adjust(0.005, 0.2 * (len(lines) + 1) / height, 0.995, 0.98, wspace=0.03, hspace=0.12)
    for i, image in enumerate(images):
        scale = math.ceil(SIDE / image.width)
        large = image.resize((scale * image.width, scale * image.height), Image.Resampling.BICUBIC)
        panels = {f"image {i + 1}": np.asarray(large)}
        for level, numbers in levels.items():
            grid = " x ".join(map(str, numbers.shape[1:]))
            panels[f"{level}, {grid}"] = colour_segments(large, numbers[i])
        for ax, (title, pixels) in zip(axes[i], panels.items()):
            ax.imshow(pixels)
            ax.set_title(title, fontsize=8, pad=2)
            ax.set_axis_off()
    figure.text(0.005, 0.06 / height, "\n".join(lines), fontsize=8, va="bottom")
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)
    return Image.open(buffer).convert("RGB")


def colour_segments(image: Image.Image, numbers: np.ndarray) -> np.ndarray:
    """Colour the pixels of an image by the numbers (H, W) of a grid over the image; uint8 (height, width, 3)."""
    mask = Image.fromarray(numbers.astype(np.int32)).resize(image.size, Image.Resampling.NEAREST)
    ids = np.asarray(mask)
    drawing = Visualizer(np.asarray(image), Metadata())
    for number in np.unique(ids).tolist():
        segment = ids == number
        text = str(number) if segment.mean() >= LEAST_NAMED else None
        colour = tuple(channel / 255 for channel in colour_of(number))
        drawing.draw_binary_mask(segment.astype(np.uint8), colour, text=text, alpha=OPACITY, area_threshold=0)
    return drawing.get_output().get_image()


def colour_of(number: int) -> tuple[int, int, int]:
    """Return the colour of a prototype, RGB from 0 to 255; neighbouring numbers have colours far apart."""
    red, green, blue = colorsys.hsv_to_rgb(
        number * 0.6180339887 % 1, 0.55 + 0.15 * (number % 4), 1 - 0.2 * (number % 3)
    )
    return round(255 * red), round(255 * green), round(255 * blue)
