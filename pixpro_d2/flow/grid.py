"""Pad frames for an estimator, and sample its dense flow on a coarse grid."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F


def grid_size(frame_size: Sequence[int], scale: int) -> tuple[int, ...]:
    """Return the size (h, w) of the flow of frames of ``frame_size`` (H, W): H / scale and W / scale, rounded up."""
    return tuple(-(-side // scale) for side in frame_size)


def to_grid(flow: torch.Tensor, scale: int) -> torch.Tensor:
    """Sample dense flow on a coarse grid, in pixels of the grid.

    The corners of the grid lie on the corners of the frame, as readers of the flow assume. A mean over cells of the
    frame would move each value by up to half a cell. It would also mix the two sides of every motion edge.

    Args:
        flow: (B, 2, H, W) flow in pixels of the frame.
        scale: see :func:`grid_size`.

    Returns:
        (B, 2, h, w) float32 flow.
    """
    (height, width), (h, w) = flow.shape[-2:], grid_size(flow.shape[-2:], scale)
    x, y = F.interpolate(flow.float(), (h, w), mode="bilinear", align_corners=True).unbind(1)
    return torch.stack((x * (w / width), y * (h / height)), dim=1)


def pad_frames(frames: torch.Tensor, size: Sequence[int]) -> torch.Tensor:
    """Repeat the last row and column of ``frames`` (..., H, W) until they have ``size`` (height, width)."""
    for dim, side in zip((-2, -1), size):
        index = torch.arange(side, device=frames.device).clamp(max=frames.shape[dim] - 1)
        frames = frames.index_select(dim, index)
    return frames
