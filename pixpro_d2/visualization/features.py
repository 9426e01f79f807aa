"""Picture of dense features: their three main components as red, green and blue, stable while training goes on."""

from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from .canvas import GAP, LINE, MARGIN
from .heat import enlarge
from .sheet import WIDTH, Tile, draw_sheet

SPAN = 2.0  # standard deviations of a component from grey to its full colour
FLAT = 0.01  # smaller standard deviations of unit vectors fade to grey: collapse must look like what it is
SIDE = 260  # of a map at most, pixels
STACKED = 3  # levels from which on the target's maps stand below the online branch's


@dataclass(frozen=True)
class Basis:
    """Three directions in the space of C features, as the three primary colours.

    * mean: (C,), the grey point;
    * axes: (C, 3), scaled so that the coordinates of the pixels that it was made of have the standard deviation 1;
    * share: of those pixels' variance that lies in the three directions, in [0, 1].
    """

    mean: Tensor
    axes: Tensor
    share: float

    def coordinates(self, features):
        """(P, 3) of features (P, C)."""
        return (_finite(features) - self.mean) @ self.axes


def fit_basis(features, reference):
    """The three main components of features, turned so that colours stay where they were.

    The components' own signs and order, and any turn of two that are equally strong, mean nothing and change from one
    moment of training to the next, as does the space that they live in. What stays is which pixel is which: the
    components, of equal scale, are turned or mirrored to be as close as possible to what the same pixels had before.

    Args:
        features (Tensor): (P, C), of pixels; NaN and infinity count as 0.
        reference (Tensor): (P, 3), coordinates of the same pixels in an earlier basis, or their colours.

    Returns:
        Basis:
    """
    features = _finite(features)
    mean = features.mean(dim=0)
    _, scales, directions = torch.linalg.svd(features - mean, full_matrices=False)
    count = min(3, len(scales))
    deviations = scales[:count] / len(features) ** 0.5
    axes = features.new_zeros(features.shape[1], 3)
    axes[:, :count] = directions[:count].T / deviations.clamp(min=FLAT)
    turn = best_turn((features - mean) @ axes, reference.to(axes))
    share = scales[:count].square().sum() / scales.square().sum().clamp(min=1e-12)
    return Basis(mean, axes @ turn, float(share))


def _finite(features):
    return torch.nan_to_num(features.float(), posinf=0, neginf=0)


def best_turn(points, reference):
    """Orthogonal matrix (3, 3) that brings points (P, 3) closest to a reference (P, 3): orthogonal Procrustes.

    Both are taken about their means. Of P pairs (p, r), sum |p Q - r|^2 is least for Q = U V^T, where U S V^T is the
    singular value decomposition of sum p^T r (Schoenemann 1966).
    """
    products = (points - points.mean(dim=0)).T @ (reference - reference.mean(dim=0))
    u, _, vh = torch.linalg.svd(products)
    return u @ vh


def to_colours(coordinates):
    """RGB in [0, 1] of coordinates (..., 3) in a basis."""
    return (0.5 + coordinates / (2 * SPAN)).clamp(0, 1)


def draw_features(images, levels, notes):
    """Each image, and beside it its features at all levels in colours, by the online and by the target branch.

    Args:
        images (list[PIL.Image.Image]): N, square, RGB.
        levels (dict[str, tuple]): level to the colours of both branches, (N, H, W, 3) ndarray each, in [0, 1].
        notes (list[str]): paragraphs below.

    Returns:
        PIL.Image.Image: at most 1200 pixels wide.
    """
    stacked = len(levels) >= STACKED
    columns = len(levels) * (1 if stacked else 2)
    between = GAP + LINE  # of maps above each other
    room = WIDTH - (columns + 2) * MARGIN
    side = min(SIDE, (room - between) // (columns + 2) if stacked else room // (columns + 1))
    large = 2 * side + between if stacked else side
    tiles = []
    for i, image in enumerate(images):
        y = MARGIN + i * (large + LINE + MARGIN)
        tiles.append(Tile(MARGIN, y, image.resize((large, large), Image.Resampling.BICUBIC), f"image {i + 1}"))
        for j, (level, maps) in enumerate(levels.items()):
            for k, (branch, values) in enumerate(zip(("online", "target"), maps)):
                column, row = (j, k) if stacked else (2 * j + k, 0)
                place = 2 * MARGIN + large + column * (side + MARGIN), y + row * (side + between)
                picture = Image.fromarray((255 * enlarge(values[i], side).clip(0, 1) + 0.5).astype("uint8"))
                tiles.append(Tile(*place, picture, f"{level} {branch}, {values.shape[1]} x {values.shape[2]}"))
    return draw_sheet(tiles, notes, width=large + columns * (side + MARGIN) + 2 * MARGIN)
