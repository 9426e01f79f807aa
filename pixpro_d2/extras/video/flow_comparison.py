"""Compare the pixels that optical flow matches with the true matches of rendered videos."""

from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from ...flow.dis import DIS
from ...flow.raft import RAFT
from ...modeling.pretrain.flow_correspondence import FlowCorrespondence
from ...modeling.pretrain.flow_points import CONSISTENCY
from ...utils.errors import UsageError
from ..scenes.video_scene import render_clip
from ..scenes.writers.video import check_flow_scale, grid_flow
from .flow_quality import Counts, Flow, count_pairs, draw_views, find_truth

POS_RATIO = 0.7
MIN_SCALE = 0.08  # scale of the views, as in pre-training


def estimate(estimator: DIS | RAFT, frames: np.ndarray) -> Flow:
    """Estimate forward and backward flow, float32 (n - 1, 2, h, w), between frames uint8 (n, H, W, 3)."""
    images = torch.from_numpy(frames).permute(0, 3, 1, 2)
    before, after = images[:-1], images[1:]
    return estimator(before, after).cpu().numpy(), estimator(after, before).cpu().numpy()


def measure(
    videos: int,
    estimator: DIS | RAFT,
    frames: int = 20,
    size: tuple[int, int] = (160, 320),
    n_frames: int = 6,
    views: int = 32,
    grid: int = 7,
    alphas: tuple[float, float] = (0.01, 0.5),
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Measure flow on rendered videos.

    Args:
        videos: number of videos; video ``i`` is video ``i`` of :mod:`pixpro_d2.tools.render_video` with the same seed.
        estimator: see :mod:`pixpro_d2.flow.estimators`; the exact flow files have the same scale.
        frames: number of frames of a video.
        size: height and width of the frames, pixels.
        n_frames: number of frames from the first view's to the second's, both included.
        views: pairs of views of each video.
        grid: side of the feature maps.
        alphas: alpha1 and alpha2 of the consistency ``pixel`` and ``legacy``.
        seed: seed of the videos and views.

    Returns:
        A row for each flow and kind of consistency:

        * ``flow`` and ``consistency``;
        * ``claimed`` and ``true``: numbers of pairs;
        * ``precision``: share of the claimed pairs that are true;
        * ``recall``: share of the true pairs that are claimed;
        * ``hidden``: share of the claimed pairs whose point is no longer visible;
        * ``precision_clear``: share of the claimed pairs away from outlines that are true;
        * ``valid``: share of the points that are trusted.

        Shares are in [0, 1], or None if there are no pairs.

    Raises:
        UsageError: if the scale of the flow does not divide the size, or videos are too short.
    """
    scale = estimator.scale
    check_flow_scale(scale, size)
    if not 2 <= n_frames <= frames:
        raise UsageError(f"--n-frames is {n_frames}; it must be at least 2, and at most the {frames} of --frames.")
    totals: dict[tuple[str, str], tuple[Counts, float]] = {}
    for video in tqdm(range(videos), desc="measure", unit="video"):
        rng = np.random.default_rng((seed, video))
        clip = render_clip(rng, frames, *size)
        drawn = draw_views(rng, views, frames, n_frames, size, MIN_SCALE)
        truths = find_truth(clip.scene, drawn, (grid, grid), POS_RATIO)
        forward, backward = grid_flow(clip, scale)
        flows = {
            "exact, 1/1": (clip.forward, clip.backward),
            f"exact, 1/{scale}": (forward.astype(np.float16), backward.astype(np.float16)),
            f"{estimator.name}, 1/{scale}": estimate(estimator, clip.frames),
        }
        for name, flow in flows.items():
            for consistency in CONSISTENCY:
                correspondence = FlowCorrespondence(POS_RATIO, "pixel", False, consistency, *alphas)
                counts, valid = count_pairs(correspondence, truths, drawn, (grid, grid), flow, size)
                before = totals.get((name, consistency), (Counts(), 0.0))
                totals[name, consistency] = before[0] + counts, before[1] + valid / videos
    return [
        {"flow": flow, "consistency": consistency, **_shares(counts), "valid": valid}
        for (flow, consistency), (counts, valid) in totals.items()
    ]


def _shares(counts: Counts) -> dict[str, float | None]:
    def share(part: int, whole: int) -> float | None:
        return part / whole if whole else None

    return {
        "claimed": counts.claimed,
        "true": counts.true,
        "precision": share(counts.right, counts.claimed),
        "recall": share(counts.right, counts.true),
        "hidden": share(counts.hidden, counts.claimed),
        "precision_clear": share(counts.right_clear, counts.clear),
    }
