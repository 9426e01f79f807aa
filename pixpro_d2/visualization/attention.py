"""Picture of the weights with which the pixel propagation module sums up an image for a few pixels."""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from ..modeling.pretrain.ppm import propagate
from .figures import WIDTH, bar_block, contact_sheet, cover_map, palette, text_block, to_image
from .marks import bin_boxes, centres, draw_box, draw_number
from .rows import add_square, rows_figure

PLACES = ((0.5, 0.5), (0.2, 0.25), (0.8, 0.3), (0.35, 0.8))  # (x, y) of the pixels as shares of the view


def attention_maps(features: Tensor, pixels: Sequence[int], gamma: float) -> Tensor:
    """Compute the weights with which the pixel propagation module sums up an image for some of its pixels.

    Args:
        features: (C, H, W), input of the module.
        pixels: indices of Q pixels, row-major.
        gamma: sharpness of the module.

    Returns:
        (Q, H, W) float32, max(cosine, 0)^gamma: 1 at the pixel itself.
    """
    # The weights are symmetric. So the module spreads a value of 1 at one pixel by the weights of that pixel.
    values = F.one_hot(torch.as_tensor(pixels, device=features.device), features[0].numel()).float()
    return propagate(features[None], values.view(1, -1, *features.shape[1:]), gamma, normalize_values=False)[0]


def pixels_at(places: Iterable[tuple[float, float]], grid: Sequence[int]) -> list[int]:
    """Return the row-major indices of the bins of a ``grid`` (H, W) at ``places`` (x, y) in [0, 1); each bin once."""
    return list(dict.fromkeys(int(y * grid[0]) * grid[1] + int(x * grid[1]) for x, y in places))


def draw_attention(view: Image.Image, maps: dict[str, tuple[list[int], np.ndarray]], note: str) -> Image.Image:
    """Draw a row for each level: the view with its numbered pixels, and for each pixel the weights of all others.

    Args:
        view: square, RGB.
        maps: level to (indices of Q pixels, weights (Q, H, W) in [0, 1]).
        note: name of the model; begins the text below.

    Returns:
        A picture 1200 pixels wide.
    """
    figure = rows_figure(len(maps))
    for row, (level, (pixels, weights)) in enumerate(maps.items()):
        _draw_level(figure, row, view, level, pixels, weights)
    means = ", ".join(f"{level} {weights.mean():.2f}" for level, (_, weights) in maps.items())
    text = (
        f"{note}. Attention of the pixel propagation module: the weight max(cosine, 0)^gamma of every pixel in the sum "
        f"that replaces the numbered one; mean weights: {means}. Where they are near 1 everywhere, all pixels look "
        "alike to the model."
    )
    return contact_sheet([to_image(figure), bar_block("weight 0", "1", WIDTH), text_block([text], WIDTH)])


def _draw_level(
    figure: Figure, row: int, view: Image.Image, level: str, pixels: list[int], weights: np.ndarray
) -> None:
    grid, colours = weights.shape[1:], palette(len(pixels))
    boxes = bin_boxes(grid, view.size)[pixels]
    first = add_square(figure, row, 0, view, f"{level}: {grid[0]} x {grid[1]} pixels")
    for number, (box, colour, values) in enumerate(zip(boxes, colours, weights), start=1):
        draw_box(first, box, colour)
        draw_number(first, centres(box), number, colour)
        axes = add_square(figure, row, number, view, f"pixel {number}, mean {values.mean():.2f}", colour)
        cover_map(axes, values)
        draw_number(axes, centres(box), number, colour)
