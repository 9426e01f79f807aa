"""Which pixels of views of two video frames are the same physical point, by optical flow.

Shape shorthand: N samples; a view's feature map is a grid of H x W bins, L = H * W, row-major. The first view shows one
frame and the second another, m steps away. The centres of the query's bins follow the flow to the frame of the key;
from there on they are matched as those of two crops of one image are.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from .correspondence import BoxCorrespondence, bin_centers, bin_diagonals, pairs_within
from .flow_points import FlowScale, Motion, track_points

MONITORED_GRID = (7, 7)


@dataclass(frozen=True)
class FlowGeometry:
    """Where the views of a batch lie, and how their frames move.

    * boxes: two of (N, 4), signed, in the units of distance;
    * pixels: (N, 1, 2), pixels in such a unit, as (x, y);
    * motion: from the first view's frame to the second's; None where both are views of one frame.
    """

    boxes: tuple
    pixels: Tensor
    motion: Motion | None


class FlowCorrespondence(BoxCorrespondence):
    """Positives of two views of a video: pixels that lie close together once the flow has moved the query's.

    Only the query is moved, and only its validity counts. Without a flow in the batch it is a
    :class:`BoxCorrespondence`, and so it is where the flow is zero.
    """

    def __init__(
        self,
        pos_ratio,
        distance_units="pixel",
        official_rounding=False,
        consistency="pixel",
        alpha1=0.01,
        alpha2=0.5,
        estimator=None,
    ):
        """
        Args:
            pos_ratio (float): threshold T of `correspondence.positive_pairs`; the diagonals
                of the bins that it counts in stay those of the boxes, whatever the flow does to their size.
            distance_units, official_rounding: as in :func:`pixpro_d2.modeling.pretrain.correspondence.normalize_boxes`;
                the released code of PixPro with optical flow has ``pixel`` and the official rounding.
            consistency (str), alpha1, alpha2 (float): as in `flow_points.track_points`.
            estimator (Callable or None): ``estimator(first, second)`` gives the flow (N, 2, h, w), in units of its own
                grid, between two uint8 RGB frames (N, 3, H, W) on the device; for batches that carry frames.
        """
        super().__init__(pos_ratio, distance_units, official_rounding)
        self.consistency = consistency
        self.alpha1 = alpha1
        self.alpha2 = alpha2
        self.estimator = estimator

    @torch.no_grad()
    def prepare(self, batch, device):
        """Boxes and flows on ``device``, as a :class:`FlowGeometry`.

        Args:
            batch (dict): of :func:`pixpro_d2.data.pretrain.collate.collate_views`, and for views of two frames either

                * flow_there, flow_back: (N, m, 2, h, w) in order of use, from the first view's frame to the second's
                  and back, padded at the bottom and right;
                * flow_sizes: (N, 2), (h, w) of each sample's own flow;

                or, for the estimator,

                * frames: (N, m + 1, 3, H, W) uint8 from the first view's frame to the second's, padded likewise.
            device (torch.device):
        """
        boxes = super().prepare(batch, device)
        sizes = batch["image_sizes"].to(device, non_blocking=True).float()
        if self.distance_units == "pixel":
            pixels = torch.ones_like(sizes)
        else:
            pixels = (sizes - float(self.official_rounding)).clamp(min=1).flip(-1)
        if self.estimator is not None and "frames" in batch:
            motion = self._estimate(batch["frames"].to(device, non_blocking=True), sizes)
        elif "flow_there" in batch:
            there, back, flow_sizes = (
                batch[key].to(device, non_blocking=True).float() for key in ("flow_there", "flow_back", "flow_sizes")
            )
            motion = Motion(there, back, FlowScale.from_sizes(flow_sizes, sizes, sizes))
        else:
            motion = None
        return FlowGeometry(boxes, pixels[:, None], motion)

    def __call__(self, geometry, grids):
        """
        Args:
            geometry (FlowGeometry): of :meth:`prepare`.
            grids (Sequence[tuple[int, int]]): (H, W) of both feature maps.

        Returns:
            tuple[Tensor, Tensor]: (N, L0, L1) and (N, L1, L0) bool: the first view's pixels moved to the second view's
            frame, and the second's to the first's. The one need not be the other's transposed.
        """
        if geometry.motion is None:
            return super().__call__(geometry.boxes, grids)
        unit = torch.maximum(*(bin_diagonals(box, grid) for box, grid in zip(geometry.boxes, grids)))
        centers = [bin_centers(box, grid) for box, grid in zip(geometry.boxes, grids)]
        masks = []
        for queries, keys, (displacements, valid) in zip(centers, centers[::-1], self._tracks(geometry, centers)):
            pairs = pairs_within(queries + displacements / geometry.pixels, keys, unit, self.pos_ratio)
            masks.append(pairs & valid[:, :, None])
        return tuple(masks)

    def monitors(self, geometry):
        """Scalars to record, of the points of a 7 x 7 grid of both views; none without flow.

        Returns:
            dict[str, Tensor]: 0-d float32 each: ``valid_pixels``, the share of valid points, and ``displacement``, the
            mean length in pixels of how far they move; 0 where none is valid.
        """
        if geometry.motion is None:
            return {}
        centers = [bin_centers(box, MONITORED_GRID) for box in geometry.boxes]
        displacements, valid = (torch.cat(parts) for parts in zip(*self._tracks(geometry, centers)))
        lengths = displacements.norm(dim=-1).masked_fill(~valid, 0)
        return {"valid_pixels": valid.float().mean(), "displacement": lengths.sum() / valid.sum().clamp(min=1)}

    def _tracks(self, geometry, centers):
        """Of both views' ``centers`` in turn: displacements to the other's frame in pixels, and validity."""
        # Boxes count from the edge of the frame's first pixel, with the official rounding from its centre as flows do.
        edge = 0.0 if self.official_rounding else 0.5
        tracks = []
        for points, motion in zip(centers, (geometry.motion, geometry.motion.reversed())):
            pixels = points * geometry.pixels - edge
            # Bins of a tiny crop may lie beyond the centre of the frame's outermost pixels; they move as those do.
            pixels = torch.minimum(pixels.clamp(min=0), motion.scale.last)
            tracks.append(track_points(pixels, motion, self.consistency, self.alpha1, self.alpha2))
        return tracks

    def _estimate(self, frames, sizes):
        """Motion through ``frames`` (N, k, 3, H, W), which are padded from ``sizes`` (N, 2); None for one frame."""
        if frames.shape[1] == 1:
            return None
        steps = frames.unbind(1)
        there, back = (
            torch.stack([self.estimator(first, second).float() for first, second in pairwise(order)], dim=1)
            for order in (steps, steps[::-1])
        )
        flow_size, covered = (torch.tensor([x.shape[-2:]]).to(sizes.device, non_blocking=True) for x in (there, frames))
        return Motion(there, back, FlowScale.from_sizes(flow_size, covered, sizes))
