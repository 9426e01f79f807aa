"""Points of one frame of a video, followed to another frame by optical flow.

Shape shorthand: N samples with L points each; m flows, one for each step between adjacent frames of H x W pixels.
A flow has h x w vectors, as a channel of x and one of y, in units of its own grid.

Coordinates: the centre of a frame's first pixel is 0 and of its last is W - 1, half a pixel less than the continuous
coordinates of boxes. The first and last vector of a flow lie on these centres ("align_corners"), while its vectors
count W / w pixels a unit: the convention of RAFT's upsampling.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

CONSISTENCY = ("none", "pixel", "legacy", "legacy_coarse")  # of track_points


@dataclass(frozen=True)
class FlowScale:
    """How flows lie in their frames; each field is (N, 1, 2) float32, as (x, y).

    * last: centre of the frame's last pixel (W - 1, H - 1);
    * position: grid units of the flow in a pixel of position;
    * length: pixels in a unit of the flow's vectors.
    """

    last: Tensor
    position: Tensor
    length: Tensor

    @classmethod
    def from_sizes(cls, flow_sizes, covered_sizes, frame_sizes):
        """
        Args:
            flow_sizes (Tensor): (N or 1, 2), (h, w) of the flows.
            covered_sizes (Tensor): (N or 1, 2), (height, width) in pixels of what the flows cover: the frames, or
                the frames with what they were padded by.
            frame_sizes (Tensor): (N, 2), (H, W) of the frames.
        """
        flow, covered, frame = (sizes.float().flip(-1)[:, None] for sizes in (flow_sizes, covered_sizes, frame_sizes))
        return cls(last=frame - 1, position=(flow - 1) / (covered - 1).clamp(min=1), length=covered / flow)

    def in_grid_units(self):
        """The scale for points that are in grid units of the flow themselves."""
        one = torch.ones_like(self.last)
        return FlowScale(last=self.last * self.position, position=one, length=one)


@dataclass(frozen=True)
class Motion:
    """Flows from one frame to another, ``there``, and ``back``: (N, m, 2, h, w) float32, in the order of use."""

    there: Tensor
    back: Tensor
    scale: FlowScale

    def reversed(self):
        """The motion from the second frame to the first."""
        return Motion(self.back, self.there, self.scale)


def sample_flow(flow, points, last):
    """Vectors of a flow at points, bilinear, and zero outside.

    As with zero padding, a point up to one grid unit outside gets the less of the vector at the border the farther
    it is, and no other gets any. Exact on the grid and where all vectors are equal, unlike ``F.grid_sample``.

    Args:
        flow (Tensor): (N, 2, h, w) float32, its samples padded at the bottom and right to one size.
        points (Tensor): (N, L, 2) in grid units.
        last (Tensor): (N, 1, 2), each sample's own last grid position.

    Returns:
        Tensor: (N, L, 2) in units of the flow.
    """
    height, width = flow.shape[-2:]
    vectors = flow.flatten(2)

    def at(x, y):
        index = (y * width + x)[:, None].expand(-1, 2, -1)
        return vectors.gather(2, index).transpose(1, 2)

    nearest = torch.minimum(points.clamp(min=0), last)
    left, top = nearest.nan_to_num().long().unbind(-1)
    right, bottom = (left + 1).clamp(max=width - 1), (top + 1).clamp(max=height - 1)
    x, y = nearest.frac().split(1, dim=-1)
    sampled = at(left, top).lerp(at(right, top), x).lerp(at(left, bottom).lerp(at(right, bottom), x), y)
    return sampled * (1 - (points - nearest).abs()).clamp(min=0).prod(dim=-1, keepdim=True)


def chain_points(points, flows, scale):
    """Follow points through the steps of a video.

    Args:
        points (Tensor): (N, L, 2) positions in the first frame.
        flows (Tensor): (N, m, 2, h, w) float32 flows in the order of use.
        scale (FlowScale): of the flows to the units of the points.

    Returns:
        tuple[Tensor, Tensor]: displacements (N, L, 2) to the last frame, and (N, L) bool, whether a point was in the
        frame, border included, after every step. One that is farther outside than a grid unit stays there.
    """
    displacements = torch.zeros_like(points)
    inside = torch.ones(points.shape[:-1], dtype=torch.bool, device=points.device)
    last = scale.last * scale.position
    for flow in flows.unbind(1):
        vectors = sample_flow(flow, (points + displacements) * scale.position, last)
        displacements = displacements + vectors * scale.length
        moved = points + displacements
        inside = inside & ((moved >= 0) & (moved <= scale.last)).all(dim=-1)
    return displacements, inside


def track_points(points, motion, consistency, alpha1, alpha2):
    """Displacements of points, and which of them can be trusted.

    Args:
        points (Tensor): (N, L, 2) pixels of the first frame.
        motion (Motion): from the first frame to the second.
        consistency (str): which points are valid.

            * ``pixel``: those in the frame after every step whose way back agrees with the way there (paper Eq. 3):
              ``|there + back|^2 < alpha1 (|there|^2 + |back|^2) + alpha2``, in pixels of the frame, so
              whatever the resolution of the flow;
            * ``legacy``: those of :func:`legacy_valid`, the rule of the paper's released code, at the resolution of the
              frames, as its scripts have it (``flow_up``); ``legacy_coarse``: at that of the flow;
            * ``none``: all, also those that leave the frame, as the released code without alphas.
        alpha1, alpha2 (float): of the rule; with ``pixel``, an infinite alpha2 leaves the frame's border alone.

    Returns:
        tuple[Tensor, Tensor]: displacements (N, L, 2) in pixels and (N, L) bool, valid.
    """
    there, inside = chain_points(points, motion.there, motion.scale)
    if consistency == "none":
        return there, torch.ones_like(inside)
    if consistency.startswith("legacy"):
        return there, legacy_valid(points, motion, alpha1, alpha2, coarse=consistency == "legacy_coarse")
    back, _ = chain_points(points + there, motion.back, motion.scale)
    tolerance = alpha1 * (_square(there) + _square(back)) + alpha2
    return there, inside & (_square(there + back) < tolerance)


def legacy_valid(points, motion, alpha1, alpha2, coarse=False):
    """Validity as in the released code of PixPro with optical flow, (N, L) bool.

    As there: it is judged at the grid position nearest to a point and in the units of that grid, of which both
    lengths are divided by half a side less one and alpha2 by the diagonal (so that the tolerance depends on the
    resolution). The grid is the frame's, or with ``coarse`` the flow's. Only the last position has to be in the frame,
    and its border is outside.

    Unlike there: the way back starts where the way there ends. The released code composes dense fields and
    interpolates the one of the way back, which is the same for one step and otherwise differs by interpolation.

    Arguments are those of :func:`track_points`.
    """
    scale = motion.scale.in_grid_units() if coarse else motion.scale
    nodes = (points * motion.scale.position if coarse else points).round()
    there, _ = chain_points(nodes, motion.there, scale)
    end = nodes + there
    back, _ = chain_points(end, motion.back, scale)
    there, back = 2 * there / scale.last, 2 * back / scale.last
    inside = ((end > 0) & (end < scale.last)).all(dim=-1)
    diagonal = (scale.last + 1).norm(dim=-1)
    return inside & (_square(there + back) <= alpha1 * (_square(there) + _square(back)) + alpha2 / diagonal)


def _square(vectors):
    return vectors.square().sum(dim=-1)
