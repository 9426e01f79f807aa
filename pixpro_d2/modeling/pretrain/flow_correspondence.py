"""Which pixels of views of two video frames are the same physical point, by optical flow.

Shape shorthand: N samples; a view's feature map is a grid of H x W bins, L = H * W, row-major. The first view shows one
frame and the second another, m steps away. The centres of the query's bins follow the flow to the frame of the key.
There they are matched like the bins of two crops of one image.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from .correspondence import BoxCorrespondence, bin_centers, bin_diagonals, pairs_within
from .flow_points import FlowScale, Motion, track_points

MONITORED_GRID = (7, 7)


@dataclass(frozen=True)
class FlowGeometry:
    """Hold the positions of the views of a batch, and the motion between their frames.

    * boxes: pair of tensors (N, 4), signed, in the units of distance;
    * pixels: (N, 1, 2), pixels in one unit of distance, as (x, y);
    * motion: from the first view's frame to the second's; None if both views show one frame.
    """

    boxes: tuple[Tensor, Tensor]
    pixels: Tensor
    motion: Motion | None


class FlowCorrespondence(BoxCorrespondence):
    """Find the positive pairs of two views of a video: pixels that lie close together after the query's have moved.

    The flow moves the query's pixels only, and only their validity counts. Without a flow in the batch, or with a flow
    of zero, :class:`BoxCorrespondence` finds the same pairs.
    """

    def __init__(
        self,
        pos_ratio: float,
        distance_units: str = "pixel",
        official_rounding: bool = False,
        consistency: str = "pixel",
        alpha1: float = 0.01,
        alpha2: float = 0.5,
        estimator: Callable[[Tensor, Tensor], Tensor] | None = None,
    ) -> None:
        """
        Args:
            pos_ratio: threshold T of `correspondence.positive_pairs`, in bin diagonals of the boxes; the flow does
                not change the diagonals.
            distance_units, official_rounding: as in :func:`pixpro_d2.modeling.pretrain.correspondence.normalize_boxes`;
                the released code of PixPro with optical flow has ``pixel`` and the official rounding.
            consistency, alpha1, alpha2: as in `flow_points.track_points`.
            estimator: ``estimator(first, second)`` gives the flow (N, 2, h, w), in units of its own grid, between two
                uint8 RGB frames (N, 3, H, W) on its ``device``, or else on the model's; for batches that carry frames.
        """
        super().__init__(pos_ratio, distance_units, official_rounding)
        self.consistency = consistency
        self.alpha1 = alpha1
        self.alpha2 = alpha2
        self.estimator = estimator

    @torch.no_grad()
    def geometry(self, batch: dict[str, Any], device: torch.device) -> FlowGeometry:
        """Return boxes and flows on ``device``.

        Args:
            batch: result of :func:`pixpro_d2.data.pretrain.collate.collate`, and for views of two frames either

                * flow_there, flow_back: (N, m, 2, h, w) in order of use, from the first view's frame to the second's
                  and back, padded at the bottom and right;
                * flow_sizes: (N, 2), (h, w) of each sample's own flow;

                or, for the estimator,

                * frames: (N, m + 1, 3, H, W) uint8 from the first view's frame to the second's, padded likewise.
            device: device of the boxes and flows.
        """
        boxes = super().geometry(batch, device)
        sizes = batch["image_sizes"].to(device, non_blocking=True).float()
        if self.distance_units == "pixel":
            pixels = torch.ones_like(sizes)
        else:
            pixels = (sizes - float(self.official_rounding)).clamp(min=1).flip(-1)
        if self.estimator is not None and "frames" in batch:
            place = getattr(self.estimator, "device", device)  # a copy back from a GPU would wait for its queue
            motion = _estimate(self.estimator, batch["frames"].to(place, non_blocking=True), sizes)
        elif "flow_there" in batch:
            there, back, flow_sizes = (
                batch[key].to(device, non_blocking=True).float() for key in ("flow_there", "flow_back", "flow_sizes")
            )
            motion = Motion(there, back, FlowScale.from_sizes(flow_sizes, sizes, sizes))
        else:
            motion = None
        return FlowGeometry(boxes, pixels[:, None], motion)

    def __call__(self, geometry: FlowGeometry, grids: Sequence[tuple[int, int]]) -> tuple[Tensor, Tensor]:
        """Find the positive pairs of one level.

        Args:
            geometry: result of :meth:`geometry`.
            grids: (H, W) of both feature maps.

        Returns:
            (N, L0, L1) and (N, L1, L0) bool: the first view's pixels moved to the second view's frame, and the
            second's to the first's. One mask need not be the transpose of the other.
        """
        if geometry.motion is None:
            return super().__call__(geometry.boxes, grids)
        unit = torch.maximum(*(bin_diagonals(box, grid) for box, grid in zip(geometry.boxes, grids)))
        centers = [bin_centers(box, grid) for box, grid in zip(geometry.boxes, grids)]
        masks = []
        tracks = self._tracks(geometry, geometry.motion, centers)
        for queries, keys, (displacements, valid) in zip(centers, centers[::-1], tracks):
            pairs = pairs_within(queries + displacements / geometry.pixels, keys, unit, self.pos_ratio)
            masks.append(pairs & valid[:, :, None])
        there, back = masks
        return there, back

    def monitors(self, geometry: FlowGeometry) -> dict[str, Tensor]:
        """Return scalars to record about the points of a 7 x 7 grid of both views; none without flow.

        Returns:
            0-d float32 each: ``valid_pixels``, the share of valid points, and ``displacement``, the mean length in
            pixels of the displacements of valid points; 0 if no point is valid.
        """
        if geometry.motion is None:
            return {}
        centers = [bin_centers(box, MONITORED_GRID) for box in geometry.boxes]
        displacements, valid = (torch.cat(parts) for parts in zip(*self._tracks(geometry, geometry.motion, centers)))
        lengths = displacements.norm(dim=-1).masked_fill(~valid, 0)
        return {"valid_pixels": valid.float().mean(), "displacement": lengths.sum() / valid.sum().clamp(min=1)}

    def _tracks(self, geometry: FlowGeometry, motion: Motion, centers: list[Tensor]) -> list[tuple[Tensor, Tensor]]:
        """Return the displacements to the other view's frame in pixels and the validity of both views' ``centers``."""
        # Boxes count from the edge of the frame's first pixel; with the official rounding from its centre, as flows do.
        edge = 0.0 if self.official_rounding else 0.5
        tracks = []
        for points, direction in zip(centers, (motion, motion.reversed())):
            pixels = points * geometry.pixels - edge
            # Bins of a tiny crop may lie beyond the centre of the frame's outermost pixels; they move as these pixels.
            pixels = torch.minimum(pixels.clamp(min=0), direction.scale.last)
            tracks.append(track_points(pixels, direction, self.consistency, self.alpha1, self.alpha2))
        return tracks


def _estimate(estimator: Callable[[Tensor, Tensor], Tensor], frames: Tensor, sizes: Tensor) -> Motion | None:
    """Estimate the motion through ``frames`` (N, k, 3, H, W), padded from ``sizes`` (N, 2); None for one frame."""
    if frames.shape[1] == 1:
        return None
    steps = frames.unbind(1)
    there, back = (
        torch.stack([estimator(first, second).float() for first, second in pairwise(order)], dim=1).to(
            sizes.device, non_blocking=True
        )
        for order in (steps, steps[::-1])
    )
    flow_size, covered = (torch.tensor([x.shape[-2:]]).to(sizes.device, non_blocking=True) for x in (there, frames))
    return Motion(there, back, FlowScale.from_sizes(flow_size, covered, sizes))
