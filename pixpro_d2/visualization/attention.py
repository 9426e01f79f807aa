"""Picture of the weights with which the pixel propagation module sums up an image for a few pixels."""

from collections.abc import Iterable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ..modeling.pretrain.ppm import propagate
from .canvas import Colour, palette
from .heat import overlay
from .sheet import SIDE, bin_box, draw_sheet, lay_out_rows, mark, tile_canvas

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
    rows = [_level_row(view, level, *item) for level, item in maps.items()]
    means = ", ".join(f"{level} {weights.mean():.2f}" for level, (_, weights) in maps.items())
    text = (
        f"{note}. Attention of the pixel propagation module: the weight max(cosine, 0)^gamma of every pixel in the sum "
        f"that replaces the numbered one; mean weights: {means}. Where they are near 1 everywhere, all pixels look "
        "alike to the model."
    )
    return draw_sheet(lay_out_rows(rows), [text], bar=("weight 0", "1"))


def _level_row(
    view: Image.Image, level: str, pixels: list[int], weights: np.ndarray
) -> list[tuple[Image.Image, str] | tuple[Image.Image, str, Colour]]:
    grid, colours = weights.shape[1:], palette(len(pixels))
    first = tile_canvas(view)
    for number, (pixel, colour) in enumerate(zip(pixels, colours), start=1):
        box = bin_box(pixel, grid)
        first.box(box, colour)
        mark(first, box, number, colour)
    row: list[tuple[Image.Image, str] | tuple[Image.Image, str, Colour]]
    row = [(first.finish(), f"{level}: {grid[0]} x {grid[1]} pixels")]
    for number, (pixel, colour, values) in enumerate(zip(pixels, colours, weights), start=1):
        tile = tile_canvas(overlay(view, values, SIDE))
        mark(tile, bin_box(pixel, grid), number, colour)
        row.append((tile.finish(), f"pixel {number}, mean {values.mean():.2f}", colour))
    return row
