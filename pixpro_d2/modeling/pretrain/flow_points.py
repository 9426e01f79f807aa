"""Points of one frame of a video, followed to another frame by optical flow.

Shape shorthand: N samples with L points each; m flows, one for each step between adjacent frames of H x W pixels.
A flow has h x w vectors, as a channel of x and one of y, in units of its own grid.

Coordinates: the centre of a frame's first pixel is 0, and the centre of its last pixel is W - 1. Points are half a
pixel less than the continuous coordinates of boxes. The first and last vector of a flow lie on these centres
("align_corners"), while a unit of its vectors is W / w pixels: the convention of RAFT's upsampling.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

CONSISTENCY = ("none", "pixel", "legacy", "legacy_coarse")  # rules of track_points


@dataclass(frozen=True)
class FlowScale:
    """Hold the scale of flows relative to their frames; each field is (N, 1, 2) float32, as (x, y).

    * last: centre of the frame's last pixel (W - 1, H - 1);
    * position: grid units of the flow in a pixel of position;
    * length: pixels in a unit of the flow's vectors.
    """

    last: Tensor
    position: Tensor
    length: Tensor

    @classmethod
    def from_sizes(cls, flow_sizes: Tensor, covered_sizes: Tensor, frame_sizes: Tensor) -> "FlowScale":
        """Compute the scale from sizes.

        Args:
            flow_sizes: (N or 1, 2), (h, w) of the flows.
            covered_sizes: (N or 1, 2), (height, width) in pixels of the area that the flows cover: the frames, with
                their padding if there is any.
            frame_sizes: (N, 2), (H, W) of the frames.
        """
        flow, covered, frame = (sizes.float().flip(-1)[:, None] for sizes in (flow_sizes, covered_sizes, frame_sizes))
        return cls(last=frame - 1, position=(flow - 1) / (covered - 1).clamp(min=1), length=covered / flow)

    def in_grid_units(self) -> "FlowScale":
        """Return the scale for points that are in grid units of the flow."""
        one = torch.ones_like(self.last)
        return FlowScale(last=self.last * self.position, position=one, length=one)


@dataclass(frozen=True)
class Motion:
    """Hold the flows from a frame to another, ``there`` and ``back``: (N, m, 2, h, w) float32, in the order of use."""

    there: Tensor
    back: Tensor
    scale: FlowScale

    def reversed(self) -> "Motion":
        """Return the motion from the second frame to the first."""
        return Motion(self.back, self.there, self.scale)


def sample_flow(flow: Tensor, points: Tensor, last: Tensor) -> Tensor:
    """Sample the vectors of a flow at points, bilinear, and zero outside.

    Up to one grid unit outside, the vector at the border fades to zero, as with zero padding. The result is exact on
    the grid and where all vectors are equal, unlike the result of ``F.grid_sample``.

    Args:
        flow: (N, 2, h, w) float32, its samples padded at the bottom and right to one size.
        points: (N, L, 2) in grid units.
        last: (N, 1, 2), each sample's own last grid position.

    Returns:
        (N, L, 2) in units of the flow.
    """
    height, width = flow.shape[-2:]
    vectors = flow.flatten(2)

    def at(x: Tensor, y: Tensor) -> Tensor:  # vectors (N, L, 2) at grid positions
        index = (y * width + x)[:, None].expand(-1, 2, -1)
        return vectors.gather(2, index).transpose(1, 2)

    nearest = torch.minimum(points.clamp(min=0), last)
    left, top = nearest.nan_to_num().long().unbind(-1)
    right, bottom = (left + 1).clamp(max=width - 1), (top + 1).clamp(max=height - 1)
    x, y = nearest.frac().split(1, dim=-1)
    sampled = at(left, top).lerp(at(right, top), x).lerp(at(left, bottom).lerp(at(right, bottom), x), y)
    return sampled * (1 - (points - nearest).abs()).clamp(min=0).prod(dim=-1, keepdim=True)


def chain_points(points: Tensor, flows: Tensor, scale: FlowScale) -> tuple[Tensor, Tensor]:
    """Follow points through the steps of a video.

    Args:
        points: (N, L, 2) positions in the first frame.
        flows: (N, m, 2, h, w) float32 flows in the order of use.
        scale: scale of the flows in the units of the points.

    Returns:
        Displacements (N, L, 2) to the last frame, and (N, L) bool, whether a point was in the frame, border included,
        after every step. A point farther outside than one grid unit no longer moves.
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


def track_points(
    points: Tensor, motion: Motion, consistency: str, alpha1: float, alpha2: float
) -> tuple[Tensor, Tensor]:
    """Return the displacements of points, and which points are valid.

    Args:
        points: (N, L, 2) pixels of the first frame.
        motion: from the first frame to the second.
        consistency: which points are valid.

            * ``pixel``: points in the frame after every step whose way back agrees with the way there (paper Eq. 3):
              ``|there + back|^2 < alpha1 (|there|^2 + |back|^2) + alpha2``, in pixels of the frame, so independent of
              the flow's resolution;
            * ``legacy``: the points of :func:`legacy_valid`, the rule of the paper's released code, at the resolution
              of the frames, as in its scripts (``flow_up``);
            * ``legacy_coarse``: the same rule at the resolution of the flow;
            * ``none``: all points, also points that leave the frame, as the released code without alphas.
        alpha1, alpha2: tolerances of the rule; with ``pixel`` and an infinite alpha2, only the frame's border counts.

    Returns:
        Displacements (N, L, 2) in pixels and (N, L) bool, valid.
    """
    there, inside = chain_points(points, motion.there, motion.scale)
    if consistency == "none":
        return there, torch.ones_like(inside)
    if consistency.startswith("legacy"):
        return there, legacy_valid(points, motion, alpha1, alpha2, coarse=consistency == "legacy_coarse")
    back, _ = chain_points(points + there, motion.back, motion.scale)
    tolerance = alpha1 * (_square(there) + _square(back)) + alpha2
    return there, inside & (_square(there + back) < tolerance)


def legacy_valid(points: Tensor, motion: Motion, alpha1: float, alpha2: float, coarse: bool = False) -> Tensor:
    """Judge validity as the released code of PixPro with optical flow does; return (N, L) bool.

    The rule is the released code's. Each point is moved to the nearest grid position, and lengths are in grid units.
    The grid is the frame's, or with ``coarse`` the flow's. Both lengths are divided by half a side less one, and alpha2
    by the diagonal, so the tolerance depends on the resolution. Only the last position has to be in the frame, and the
    frame's border counts as outside.

    One difference: here the way back starts where the way there ends. The released code composes dense fields and
    interpolates the field of the way back. Both agree for one step, and differ by interpolation for more steps.

    The arguments have the meaning of :func:`track_points`.
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


def _square(vectors: Tensor) -> Tensor:
    return vectors.square().sum(dim=-1)
