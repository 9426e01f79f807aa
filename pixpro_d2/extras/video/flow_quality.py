"""Count the true matches among the pixels that flow matches, on rendered video with known truth."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...data.pretrain.views import sample_view
from ...modeling.pretrain.correspondence import bin_centers, bin_diagonals, pairs_within
from ...modeling.pretrain.flow_correspondence import FlowCorrespondence
from ..scenes.video_scene import MovingScene

CHUNK_PAIRS = 8  # pairs of views at a time; each pair holds the flow of all its steps
TIE_TOLERANCE = 1e-4  # relative distance to the threshold below which pairs are skipped, because rounding would decide

Flow = tuple[np.ndarray, np.ndarray]  # forward and backward


@dataclass(frozen=True)
class ViewPairs:
    """Hold N pairs of views at the ends of runs of frames, as the mapper of videos draws them.

    * starts: N numbers of the frames of the first views;
    * steps: number of frames from the first views to the second views;
    * boxes: (N, 2, 4) float32, signed, in pixels of the frames.
    """

    starts: list[int]
    steps: int
    boxes: Tensor


@dataclass(frozen=True)
class Truth:
    """Hold the truth about the pixels of N queries and keys, on L bins each.

    * pairs: (N, L, L) bool, pairs that show the same point;
    * undecided: (N, L, L) bool, pairs too close to the threshold;
    * visible: (N, L) bool, queries whose point is still visible in the key's frame;
    * clear: (N, L) bool, queries that are visible all the way and stay a pixel away from other motion. Only these
      queries have well-defined flow between pixels: on an outline, interpolation mixes two motions.
    """

    pairs: Tensor
    undecided: Tensor
    visible: Tensor
    clear: Tensor


@dataclass(frozen=True)
class Counts:
    """Hold numbers of pairs of pixels; adding two Counts adds all numbers."""

    claimed: int = 0  # pairs of the correspondence
    true: int = 0  # pairs of the truth
    right: int = 0  # pairs of both
    hidden: int = 0  # claimed pairs whose point is hidden or out of the frame at the end
    clear: int = 0  # claimed pairs of a clear point
    right_clear: int = 0

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(self)))


def draw_views(
    rng: np.random.Generator, count: int, num_frames: int, n_frames: int, size: tuple[int, int], min_scale: float
) -> ViewPairs:
    """Draw ``count`` pairs of views, ``n_frames`` apart, from ``num_frames`` frames of ``size`` (H, W)."""
    height, width = size
    starts, boxes = [], []
    for _ in range(count):
        starts.append(int(rng.integers(num_frames - n_frames + 1)))
        boxes.append([sample_view(rng, width, height, min_scale).box for _ in range(2)])
    return ViewPairs(starts, n_frames - 1, torch.from_numpy(np.array(boxes)))


def find_truth(scene: MovingScene, views: ViewPairs, grid: tuple[int, int], pos_ratio: float) -> tuple[Truth, Truth]:
    """Find the pairs of pixels that show the same point, by the motion of the scene itself.

    The query's centre moves as the scene moves. A pair is true if the moved centre is visible in the key's frame, and
    its distance to the key's centre is less than ``pos_ratio`` of the larger bin's diagonal.

    Args:
        scene: moving scene.
        views: N pairs.
        grid: (H, W) of the feature maps, L = H * W.
        pos_ratio: threshold of the distance.

    Returns:
        Truth from the first views to the second, and back.
    """
    boxes = views.boxes.double().unbind(1)
    centers = [bin_centers(box, grid).double() for box in boxes]
    unit = torch.maximum(*(bin_diagonals(box, grid) for box in boxes)).double()
    runs = [range(start, start + views.steps + 1) for start in views.starts]
    truths = []
    for points, keys, order in zip(centers, centers[::-1], (1, -1)):
        tracks = [_track(scene, item, run[::order]) for item, run in zip(points.numpy(), runs)]
        moved, visible, clear = (torch.from_numpy(np.stack(part)) for part in zip(*tracks))
        near, far = (
            pairs_within(moved, keys, unit, pos_ratio * factor) for factor in (1 - TIE_TOLERANCE, 1 + TIE_TOLERANCE)
        )
        truths.append(Truth(near & visible[:, :, None], far & ~near, visible, clear))
    return truths[0], truths[1]


def _track(scene: MovingScene, points: np.ndarray, frames: Sequence[int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Follow ``points`` (L, 2) through ``frames``; return the last places, and whether visible, and clear."""
    moved, visible, clear = scene.track(points, frames[0], frames[-1])
    size = scene.scene.width, scene.scene.height
    for frame in frames:
        corner = np.floor(scene.track(points, frames[0], frame)[0] - 0.5)
        around = [np.clip(corner + (x, y), 0, np.subtract(size, 1)) + 0.5 for x in (0, 1) for y in (0, 1)]
        layers = scene.layers_at(frame, np.stack(around))
        clear = clear & (layers == layers[0]).all(axis=0)
    return moved, visible, clear


def count_pairs(
    correspondence: FlowCorrespondence,
    truths: tuple[Truth, Truth],
    views: ViewPairs,
    grid: tuple[int, int],
    flow: Flow,
    size: tuple[int, int],
) -> tuple[Counts, float]:
    """Count the pairs that a correspondence claims from a flow.

    Args:
        correspondence: correspondence in pixels.
        truths: result of :func:`find_truth`.
        views: views of ``truths``.
        grid: grid of ``truths``.
        flow: forward and backward flow, (n - 1, 2, h, w) in the order of time.
        size: (H, W) of the frames.

    Returns:
        Counts of both directions, and the share of points that the correspondence trusts.
    """
    counts, valid = Counts(), 0.0
    for first in range(0, len(views.starts), CHUNK_PAIRS):
        part = slice(first, first + CHUNK_PAIRS)
        batch = _batch(views, part, flow, size)
        geometry = correspondence.geometry(batch, torch.device("cpu"))
        valid += float(correspondence.monitors(geometry)["valid_pixels"]) * len(batch["boxes"])
        for claimed, truth in zip(correspondence(geometry, (grid, grid)), truths):
            claimed = claimed & ~truth.undecided[part]
            right, clear = claimed & truth.pairs[part], truth.clear[part, :, None]
            hidden = claimed & ~truth.visible[part, :, None]
            masks = (claimed, truth.pairs[part], right, hidden, claimed & clear, right & clear)
            counts += Counts(*(int(mask.sum()) for mask in masks))
    return counts, valid / len(views.starts)


def _batch(views: ViewPairs, part: slice, flow: Flow, size: tuple[int, int]) -> dict[str, Any]:
    """Return the views ``part`` with their flow, as the loader gives them to the model."""
    runs = [slice(start, start + views.steps) for start in views.starts[part]]
    there, back = (
        torch.from_numpy(np.stack([steps[run][::order] for run in runs])) for steps, order in zip(flow, (1, -1))
    )
    return {
        "boxes": views.boxes[part],
        "image_sizes": torch.tensor([size] * len(runs)),
        "flow_there": there,
        "flow_back": back,
        "flow_sizes": torch.tensor([there.shape[-2:]] * len(runs)),
    }
