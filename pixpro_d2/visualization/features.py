"""Picture of dense features: their three main components as red, green and blue, stable during training."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .figures import (
    GAP,
    LINE,
    MARGIN,
    WIDTH,
    add_image,
    add_panel,
    contact_sheet,
    cover,
    new_figure,
    shorten,
    text_block,
    to_image,
    write,
)

SPAN = 2.0  # standard deviations of a component from grey to its full colour
MIN_STD = 0.01  # smaller standard deviations of unit vectors fade to grey, so that collapse is visible
SIDE = 260  # maximum side of a map, pixels
MIN_STACKED_LEVELS = 3  # from this number of levels on, the target's maps are below the online branch's


@dataclass(frozen=True)
class Basis:
    """Hold three directions in the space of C features, as the three primary colours.

    * mean: (C,), the grey point;
    * axes: (C, 3), scaled so that the coordinates of the fitted pixels have the standard deviation 1;
    * share: share of the fitted pixels' variance in the three directions, in [0, 1].
    """

    mean: Tensor
    axes: Tensor
    share: float

    def coordinates(self, features: Tensor) -> Tensor:
        """Return the coordinates (P, 3) of features (P, C)."""
        return (_finite(features) - self.mean) @ self.axes


def fit_basis(features: Tensor, reference: Tensor) -> Basis:
    """Find the three main components of features, turned so that colours stay stable during training.

    Signs and order of the components mean nothing, and neither does a turn of two equally strong components. They
    change during training, and so does the feature space. The pixels stay the same. So the components, of equal scale,
    are turned or mirrored until the coordinates of the pixels are as close as possible to the reference.

    Args:
        features: (P, C), of pixels; NaN and infinity count as 0.
        reference: (P, 3), coordinates of the same pixels in an earlier basis, or their colours.
    """
    features = _finite(features)
    mean = features.mean(dim=0)
    _, scales, directions = torch.linalg.svd(features - mean, full_matrices=False)
    count = min(3, len(scales))
    deviations = scales[:count] / len(features) ** 0.5
    axes = features.new_zeros(features.shape[1], 3)
    axes[:, :count] = directions[:count].T / deviations.clamp(min=MIN_STD)
    turn = best_turn((features - mean) @ axes, reference.to(axes))
    share = scales[:count].square().sum() / scales.square().sum().clamp(min=1e-12)
    return Basis(mean, axes @ turn, float(share))


def _finite(features: Tensor) -> Tensor:
    return torch.nan_to_num(features.float(), posinf=0, neginf=0)


def best_turn(points: Tensor, reference: Tensor) -> Tensor:
    """Find the orthogonal matrix (3, 3) that brings points (P, 3) closest to a reference (P, 3).

    This is the orthogonal Procrustes problem (Schoenemann 1966). The means of points and reference are subtracted. Let
    U S V^T be the singular value decomposition of sum p^T r over P pairs (p, r). Then sum |p Q - r|^2 is least for
    Q = U V^T.
    """
    products = (points - points.mean(dim=0)).T @ (reference - reference.mean(dim=0))
    u, _, vh = torch.linalg.svd(products)
    return u @ vh


def to_colours(coordinates: Tensor) -> Tensor:
    """Map coordinates (..., 3) in a basis to RGB in [0, 1]."""
    return (0.5 + coordinates / (2 * SPAN)).clamp(0, 1)


def draw_features(
    images: Sequence[Image.Image], levels: dict[str, tuple[np.ndarray, np.ndarray]], notes: Sequence[str]
) -> Image.Image:
    """Draw each image, and beside it its features at all levels in colours, by the online and by the target branch.

    Args:
        images: N, square, RGB.
        levels: level to the colours of both branches, (N, H, W, 3) each, in [0, 1].
        notes: paragraphs below.

    Returns:
        A picture at most 1200 pixels wide.
    """
    stacked = len(levels) >= MIN_STACKED_LEVELS
    columns = len(levels) * (1 if stacked else 2)
    between = GAP + LINE  # of maps above each other
    room = WIDTH - (columns + 2) * MARGIN
    side = min(SIDE, (room - between) // (columns + 2) if stacked else room // (columns + 1))
    large = 2 * side + between if stacked else side
    width, step = large + columns * (side + MARGIN) + 2 * MARGIN, large + LINE + MARGIN
    figure = new_figure(width, len(images) * step + GAP)
    for i, image in enumerate(images):
        y = MARGIN + i * step
        add_image(figure, image, (MARGIN, y), (large, large), f"image {i + 1}")
        for j, (level, maps) in enumerate(levels.items()):
            for k, (branch, values) in enumerate(zip(("online", "target"), maps)):
                column, row = (j, k) if stacked else (2 * j + k, 0)
                left, top = 2 * MARGIN + large + column * (side + MARGIN), y + row * (side + between)
                title = f"{level} {branch}, {values.shape[1]} x {values.shape[2]}"
                write(figure, left, top, shorten(title, side))
                cover(add_panel(figure, (left, top + LINE), (side, side)), values[i])
    return contact_sheet([to_image(figure), text_block(notes, width)])
