"""From frames of any size to what an estimator takes, and from its dense flow to a coarse grid."""

import torch
import torch.nn.functional as F


def grid_size(frame_size, scale):
    """(h, w) of the flow of frames of ``frame_size`` (H, W) at 1 / ``scale``: H / scale and W / scale, rounded up."""
    return tuple(-(-side // scale) for side in frame_size)


def to_grid(flow, scale):
    """Sample dense flow on a coarse grid, in pixels of that.

    The grid's points are where readers take them to be, corner on corner. A mean over cells of the frame would put
    each value up to half a cell away from its point, and mix the two sides of every edge of the motion.

    Args:
        flow (Tensor): (B, 2, H, W) in pixels of the frame.
        scale (int): of :func:`grid_size`.

    Returns:
        Tensor: (B, 2, h, w) float32.
    """
    (height, width), (h, w) = flow.shape[-2:], grid_size(flow.shape[-2:], scale)
    x, y = F.interpolate(flow.float(), (h, w), mode="bilinear", align_corners=True).unbind(1)
    return torch.stack((x * (w / width), y * (h / height)), dim=1)


def pad_frames(frames, size):
    """Repeat the last row and column of ``frames`` (..., H, W) until they have ``size`` (height, width)."""
    for dim, side in zip((-2, -1), size):
        index = torch.arange(side, device=frames.device).clamp(max=frames.shape[dim] - 1)
        frames = frames.index_select(dim, index)
    return frames
