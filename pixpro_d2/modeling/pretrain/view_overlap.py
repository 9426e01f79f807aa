"""Where one view shows what the other view of its image shows too."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

LEAST_SIDE = 1e-5  # shares of a view; a smaller side of the common part is the rounding of touching crops


@dataclass(frozen=True)
class ViewOverlap:
    """Hold, for one view of N images, the part that the other view shows too.

    The unit is the side of this view: the same box serves feature maps of any size. The view is taken as the network
    sees it, so the box of a mirrored view is mirrored too.

    Attributes:
        boxes: (N, 4) float32, (x0, y0, x1, y1) in shares of the view's width and height; x0 >= x1 or y0 >= y1 if the
            views do not overlap.
        flipped: (N,) bool, whether the view is mirrored.
    """

    boxes: Tensor
    flipped: Tensor

    @property
    def exists(self) -> Tensor:
        """Return for which images the views overlap, (N,) bool."""
        return (self.boxes[:, 2:] - self.boxes[:, :2] > LEAST_SIDE).all(dim=1)


def view_overlaps(boxes: Sequence[Tensor]) -> tuple[ViewOverlap, ViewOverlap]:
    """Return the common part of both views in each of them.

    Args:
        boxes: two tensors (N, 4) of signed crop boxes in one unit, such as pixels of the image; x0 > x1 for a mirrored
            view.
    """
    first, second = (box.float() for box in boxes)
    low = torch.maximum(corners(first)[0], corners(second)[0])
    high = torch.minimum(corners(first)[1], corners(second)[1])
    return _within(first, low, high), _within(second, low, high)


def corners(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Return the upper left and the lower right corners (N, 2) of signed boxes."""
    return torch.minimum(boxes[:, :2], boxes[:, 2:]), torch.maximum(boxes[:, :2], boxes[:, 2:])


def _within(view: Tensor, low: Tensor, high: Tensor) -> ViewOverlap:
    """Return the rectangle from ``low`` to ``high`` (N, 2) in shares of the signed box ``view``."""
    flipped = view[:, 0] > view[:, 2]
    start, extent = view[:, :2], view[:, 2:] - view[:, :2]
    near, far = (low - start) / extent, (high - start) / extent
    x0, x1 = torch.where(flipped, far[:, 0], near[:, 0]), torch.where(flipped, near[:, 0], far[:, 0])
    return ViewOverlap(torch.stack((x0, near[:, 1], x1, far[:, 1]), dim=1), flipped)
