"""How many of the matching pixels that flow claims are true, on rendered video, where the truth is known."""

from dataclasses import dataclass, fields

import numpy as np
import torch
from torch import Tensor

from ...data.pretrain.views import sample_view
from ...modeling.pretrain.correspondence import bin_centers, bin_diagonals, pairs_within

CHUNK = 8  # pairs of views at a time: each holds the flow of all its steps
TIE = 1e-4  # of the threshold: pairs so close to it are left out, rounding decides on them


@dataclass(frozen=True)
class ViewPairs:
    """N pairs of views of the ends of runs of frames, as the mapper of videos draws them.

    * starts: N numbers of the frames that the first views show; steps: from there to the second views';
    * boxes: (N, 2, 4) float32, signed, in pixels of the frames.
    """

    starts: list
    steps: int
    boxes: Tensor


@dataclass(frozen=True)
class Truth:
    """Of the pixels of N queries and keys, on L bins each.

    * pairs: (N, L, L) bool, those that show the same point; undecided: those that are too close to the threshold;
    * visible: (N, L) bool, queries whose point still shows in the key's frame;
    * clear: (N, L) bool, those that show all the way and stay a pixel away from what moves otherwise. Only for them
      is flow between pixels defined: on an outline, interpolation mixes two motions.
    """

    pairs: Tensor
    undecided: Tensor
    visible: Tensor
    clear: Tensor


@dataclass(frozen=True)
class Counts:
    """Numbers of pairs of pixels; adding them adds all."""

    claimed: int = 0  # that the correspondence has
    true: int = 0  # that it should have
    right: int = 0  # in both
    hidden: int = 0  # claimed, but the point is hidden or out of the frame where it ends
    clear: int = 0  # claimed, of a clear point
    right_clear: int = 0

    def __add__(self, other):
        return Counts(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(self)))


def draw_views(rng, count, num_frames, n_frames, size, min_scale):
    """Draw ``count`` ViewPairs of ``n_frames`` out of ``num_frames`` frames of ``size`` (H, W)."""
    height, width = size
    starts, boxes = [], []
    for _ in range(count):
        starts.append(int(rng.integers(num_frames - n_frames + 1)))
        boxes.append([sample_view(rng, width, height, min_scale).box for _ in range(2)])
    return ViewPairs(starts, n_frames - 1, torch.from_numpy(np.array(boxes)))


def find_truth(scene, views, grid, pos_ratio):
    """What shows the same point, by the motion of the scene itself.

    A pair of pixels does if the query's centre, moved as the scene moves it, is visible in the key's frame and less
    than ``pos_ratio`` of the larger bin's diagonal away from the key's centre.

    Args:
        scene (MovingScene):
        views (ViewPairs): N pairs.
        grid (tuple[int, int]): (H, W) of the feature maps, L = H * W.
        pos_ratio (float):

    Returns:
        tuple[Truth, Truth]: from the first views to the second, and back.
    """
    boxes = views.boxes.double().unbind(1)
    centers = [bin_centers(box, grid).double() for box in boxes]
    unit = torch.maximum(*(bin_diagonals(box, grid) for box in boxes)).double()
    runs = [range(start, start + views.steps + 1) for start in views.starts]
    truths = []
    for points, keys, order in zip(centers, centers[::-1], (1, -1)):
        tracks = [_track(scene, item, run[::order]) for item, run in zip(points.numpy(), runs)]
        moved, visible, clear = (torch.from_numpy(np.stack(part)) for part in zip(*tracks))
        near, far = (pairs_within(moved, keys, unit, pos_ratio * factor) for factor in (1 - TIE, 1 + TIE))
        truths.append(Truth(near & visible[:, :, None], far & ~near, visible, clear))
    return tuple(truths)


def _track(scene, points, frames):
    """Where ``points`` (L, 2) of the first of ``frames`` are in the last, and whether visible, and clear."""
    moved, visible, clear = scene.track(points, frames[0], frames[-1])
    size = scene.scene.width, scene.scene.height
    for frame in frames:
        corner = np.floor(scene.track(points, frames[0], frame)[0] - 0.5)
        around = [np.clip(corner + (x, y), 0, np.subtract(size, 1)) + 0.5 for x in (0, 1) for y in (0, 1)]
        layers = scene.layers_at(frame, np.stack(around))
        clear = clear & (layers == layers[0]).all(axis=0)
    return moved, visible, clear


def count_pairs(correspondence, truths, views, grid, flow, size):
    """Count the pairs that a correspondence claims from a flow.

    Args:
        correspondence (FlowCorrespondence): in pixels.
        truths (tuple[Truth, Truth]): of :func:`find_truth`.
        views (ViewPairs), grid (tuple[int, int]): what they are of.
        flow (tuple[ndarray, ndarray]): forward and backward, (n - 1, 2, h, w) in the order of time.
        size (tuple[int, int]): (H, W) of the frames.

    Returns:
        tuple[Counts, float]: of both directions, and the share of points that the correspondence trusts.
    """
    counts, valid = Counts(), 0.0
    for first in range(0, len(views.starts), CHUNK):
        part = slice(first, first + CHUNK)
        batch = _batch(views, part, flow, size)
        geometry = correspondence.prepare(batch, torch.device("cpu"))
        valid += float(correspondence.monitors(geometry)["valid_pixels"]) * len(batch["boxes"])
        for claimed, truth in zip(correspondence(geometry, (grid, grid)), truths):
            claimed = claimed & ~truth.undecided[part]
            right, clear = claimed & truth.pairs[part], truth.clear[part, :, None]
            hidden = claimed & ~truth.visible[part, :, None]
            masks = (claimed, truth.pairs[part], right, hidden, claimed & clear, right & clear)
            counts += Counts(*(int(mask.sum()) for mask in masks))
    return counts, valid / len(views.starts)


def _batch(views, part, flow, size):
    """The views ``part`` with their flow, as the loader gives them to the model."""
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
