"""Maps of numbers in colours over a picture, and the bar that shows which colour is which number."""

import cv2
import numpy as np
from PIL import Image

from .canvas import TEXT_SIZE, Canvas, text_width

OPACITY = 0.6  # opacity of the colours over a picture
BAR = (160, 14)  # width and height of the bar, pixels


def magma(values: np.ndarray) -> np.ndarray:
    """Map numbers to colours.

    Args:
        values: (H, W) in [0, 1]; values outside are clipped, and NaN is 0.

    Returns:
        (H, W, 3) uint8 RGB, from black over violet and orange to pale yellow.
    """
    levels = (255 * np.nan_to_num(values).clip(0, 1) + 0.5).astype(np.uint8)
    return cv2.cvtColor(cv2.applyColorMap(levels, cv2.COLORMAP_MAGMA), cv2.COLOR_BGR2RGB)


def enlarge(values: np.ndarray, side: int) -> np.ndarray:
    """Enlarge a map (H, W) or (H, W, 3) smoothly to ``side`` x ``side`` pixels, float32."""
    planes = np.moveaxis(np.atleast_3d(values).astype(np.float32), 2, 0)
    large = [Image.fromarray(plane).resize((side, side), Image.Resampling.BICUBIC) for plane in planes]
    return np.stack([np.asarray(plane) for plane in large], axis=2).reshape(side, side, *np.shape(values)[2:])


def overlay(image: Image.Image, values: np.ndarray, side: int) -> Image.Image:
    """Blend a square picture with the colours of a map.

    Args:
        image: RGB, square.
        values: (H, W) in [0, 1], of the bins of the picture.
        side: side of the result in pixels.

    Returns:
        An RGB picture.
    """
    colours = Image.fromarray(magma(enlarge(np.nan_to_num(values), side)))
    return Image.blend(image.resize((side, side), Image.Resampling.BICUBIC), colours, OPACITY)


def draw_bar(canvas: Canvas, x: float, y: float, low: str, high: str) -> None:
    """Draw the bar of all colours on one line of text at (x, y), between the names of its ends."""
    canvas.text(x, y, low)
    x += text_width(low) + 8
    bar = Image.fromarray(magma(np.broadcast_to(np.linspace(0, 1, BAR[0]), BAR[::-1])))
    canvas.paste(bar, (x, y + (TEXT_SIZE + 4 - BAR[1]) / 2), 1)
    canvas.text(x + BAR[0] + 8, y, high)
