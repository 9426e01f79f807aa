"""How many of the matching pixels that flow claims are true, on rendered video, where the truth is known."""

from dataclasses import dataclass, fields

import numpy as np
import torch

from ..data.views import sample_view
from ..modeling.correspondence import bin_centers, bin_diagonals, pairs_within

CPU = torch.device("cpu")
CHUNK = 8  # pairs of views at a time: each holds the flow of all its steps


@dataclass(frozen=True)
class ViewPairs:
    """N pairs of views of the ends of runs of frames, as the mapper of videos draws them."""

    starts: list  # N numbers of the frame that the first view shows
    steps: int  # from there to the frame of the second view
    boxes: torch.Tensor  # (N, 2, 4) float32, signed, in pixels of the frame


@dataclass(frozen=True)
class Counts:
    """Of both directions of pairs of views; adding them adds all."""

    claimed: int = 0  # pairs of pixels that the correspondence has
    true: int = 0  # pairs that it should have
    right: int = 0  # pairs in both
    hidden: int = 0  # claimed pairs whose point does not show where it ends: something hides it, or it has left
    valid: float = 0.0  # pairs of views times their share of points that the correspondence trusts
    views: int = 0  # pairs of views

    def __add__(self, other):
        return Counts(*(getattr(self, field.name) + getattr(other, field.name) for field in fields(self)))

    def summary(self):
        """dict: pairs and true pairs for each pair of views and direction, and shares in [0, 1] or None of nothing."""
        wrong = self.claimed - self.right

        def share(part, whole):
            return part / whole if whole else None

        return {
            "pairs": share(self.claimed, 2 * self.views),
            "true_pairs": share(self.true, 2 * self.views),
            "precision": share(self.right, self.claimed),
            "recall": share(self.right, self.true),
            "wrong": wrong,
            "wrong_hidden": self.hidden,
            "valid": share(self.valid, self.views),
        }


def draw_views(rng, count, num_frames, n_frames, size, min_scale):
    """Draw ``count`` ViewPairs of ``n_frames`` out of ``num_frames`` frames of ``size`` (H, W)."""
    height, width = size
    starts, boxes = [], []
    for _ in range(count):
        starts.append(int(rng.integers(num_frames - n_frames + 1)))
        boxes.append([sample_view(rng, width, height, min_scale).box for _ in range(2)])
    return ViewPairs(starts, n_frames - 1, torch.from_numpy(np.array(boxes)))


def true_pairs(scene, views, grid, pos_ratio):
    """Pairs of pixels that show the same point, and points that still show at the end.

    A pair is one if the query's centre, moved as the scene moves it, is visible in the key's frame and less than
    ``pos_ratio`` of the larger bin's diagonal away from the key's centre.

    Args:
        scene (MovingScene):
        views (ViewPairs): N pairs.
        grid (tuple[int, int]): (H, W) of the feature maps, L = H * W.
        pos_ratio (float):

    Returns:
        list[tuple[Tensor, Tensor]]: from the first views to the second, and back: (N, L, L) and (N, L) bool.
    """
    boxes = views.boxes.unbind(1)
    centers = [bin_centers(box, grid) for box in boxes]
    unit = torch.maximum(*(bin_diagonals(box, grid) for box in boxes))
    ends = [views.starts, [start + views.steps for start in views.starts]]
    result = []
    for points, keys, (origins, targets) in zip(centers, centers[::-1], (ends, ends[::-1])):
        tracks = [scene.track(*item) for item in zip(points.double().numpy(), origins, targets)]
        moved, visible, _ = (torch.from_numpy(np.stack(part)) for part in zip(*tracks))
        pairs = pairs_within(moved, keys.double(), unit.double(), pos_ratio)
        result.append((pairs & visible[:, :, None], visible))
    return result


def compare(correspondence, truth, views, grid, flow, size):
    """Count the pairs that a correspondence claims from a flow.

    Args:
        correspondence (FlowCorrespondence):
        truth (list): of :func:`true_pairs`.
        views (ViewPairs): that the truth is of.
        grid (tuple[int, int]): likewise.
        flow (tuple[ndarray, ndarray]): forward and backward, (n - 1, 2, h, w) in the order of time.
        size (tuple[int, int]): (H, W) of the frames.

    Returns:
        Counts:
    """
    counts = Counts()
    for first in range(0, len(views.starts), CHUNK):
        part = slice(first, first + CHUNK)
        batch = _batch(views, part, flow, size)
        geometry = correspondence.prepare(batch, CPU)
        valid = float(correspondence.monitors(geometry)["valid_pixels"])
        views_here = len(batch["boxes"])
        counts += Counts(valid=valid * views_here, views=views_here)
        for claimed, (pairs, visible) in zip(correspondence(geometry, (grid, grid)), truth):
            pairs, visible = pairs[part], visible[part]
            counts += Counts(
                claimed=int(claimed.sum()),
                true=int(pairs.sum()),
                right=int((claimed & pairs).sum()),
                hidden=int((claimed & ~visible[:, :, None]).sum()),
            )
    return counts


def _batch(views, part, flow, size):
    """The views ``part`` with their flow, as the loader gives them to the model."""
    runs = [slice(start, start + views.steps) for start in views.starts[part]]
    there, back = (
        torch.from_numpy(np.stack([steps[run][::order] for run in runs]).astype(np.float16))
        for steps, order in zip(flow, (1, -1))
    )
    count = len(runs)
    return {
        "boxes": views.boxes[part],
        "image_sizes": torch.tensor([size]).expand(count, 2),
        "flow_there": there,
        "flow_back": back,
        "flow_sizes": torch.tensor([there.shape[-2:]]).expand(count, 2),
    }
