"""How well the pixels that optical flow matches do match, on rendered video.

    python -m pixpro_d2.tools.flow_quality [--videos N] [--frames F] [--size HxW] [--n-frames K] [--estimator dis]

Draws pairs of views as video pre-training does, and compares the positive pairs of FlowCorrespondence with those of the
motion that the video was rendered with. The flow is exact, at full resolution and as in flow files, and the
estimator's; each with every kind of consistency.
"""

import argparse
import json

import numpy as np
import torch
from tabulate import tabulate
from tqdm import tqdm

from ..extras.scenes.video_scene import render_clip
from ..extras.scenes.writers.video import grid_flow
from ..extras.video.flow_quality import Counts, count_pairs, draw_views, find_truth
from ..flow.estimators import ESTIMATORS, build_estimator
from ..modeling.pretrain.flow_correspondence import FlowCorrespondence
from ..modeling.pretrain.flow_points import CONSISTENCY
from ..utils.errors import UsageError
from .render_video import frame_size

POS_RATIO = 0.7
MIN_SCALE = 0.08  # of the views, as in pre-training
HEADERS = ("flow", "consistency", "pairs", "right %", "right off outlines %", "found %", "gone %", "trusted points %")


def estimate(estimator, frames):
    """Forward and backward flow, float32 (n - 1, 2, h, w), between frames uint8 (n, H, W, 3)."""
    frames = torch.from_numpy(frames).permute(0, 3, 1, 2)
    pairs = (frames[:-1], frames[1:]), (frames[1:], frames[:-1])
    return tuple(estimator(*pair).cpu().numpy() for pair in pairs)


def measure(videos, estimator, frames=20, size=(160, 320), n_frames=6, views=32, grid=7, alphas=(0.01, 0.5), seed=0):
    """Measure flow on rendered videos.

    Args:
        videos (int): number of videos; video ``i`` is that of :mod:`.render_video` with the same seed.
        estimator (Callable): see :mod:`pixpro_d2.flow.estimators`; its scale is also that of the exact flow files.
        frames (int), size (tuple[int, int]): frames of a video, and their height and width in pixels.
        n_frames (int): frames from the first view's to the second's, both included.
        views (int): pairs of views of each video.
        grid (int): side of the feature maps.
        alphas (tuple[float, float]): alpha1 and alpha2 of the consistency ``pixel`` and ``legacy``.
        seed (int): of the videos and views.

    Returns:
        list[dict]: for each flow and kind of consistency ``flow``, ``consistency``; numbers of ``claimed`` and ``true``
        pairs; shares in [0, 1], None of nothing: ``precision`` of the claimed pairs that are true, ``recall`` of the
        true pairs that are claimed, ``hidden`` of the claimed pairs whose point has gone, ``precision_clear`` of the
        claimed pairs away from outlines that are true, and ``valid`` of the points that are trusted.

    Raises:
        UsageError: for a size that the scale of the flow does not divide, or videos that are too short.
    """
    scale = estimator.scale
    if any(side % scale for side in size):
        raise UsageError(f"--flow-scale is {scale}; it must divide the height {size[0]} and the width {size[1]}.")
    if not 2 <= n_frames <= frames:
        raise UsageError(f"--n-frames is {n_frames}; it must be at least 2, and at most the {frames} of --frames.")
    totals = {}
    for video in tqdm(range(videos), desc="measure", unit="video"):
        rng = np.random.default_rng((seed, video))
        clip = render_clip(rng, frames, *size)
        drawn = draw_views(rng, views, frames, n_frames, size, MIN_SCALE)
        truths = find_truth(clip.scene, drawn, (grid, grid), POS_RATIO)
        flows = {
            "exact, 1/1": (clip.forward, clip.backward),
            f"exact, 1/{scale}": tuple(flow.astype(np.float16) for flow in grid_flow(clip, scale)),
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


def _shares(counts):
    def share(part, whole):
        return part / whole if whole else None

    return {
        "claimed": counts.claimed,
        "true": counts.true,
        "precision": share(counts.right, counts.claimed),
        "recall": share(counts.right, counts.true),
        "hidden": share(counts.hidden, counts.claimed),
        "precision_clear": share(counts.right_clear, counts.clear),
    }


def main(argv=None):
    """Run the command line ``argv``, by default that of the process."""
    parser = argparse.ArgumentParser(
        prog="python -m pixpro_d2.tools.flow_quality",
        description="Compare the pixels that optical flow matches with the truth, on rendered video.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--videos", type=int, default=8, help="number of videos")
    parser.add_argument("--frames", type=int, default=20, help="frames of each video")
    parser.add_argument("--size", type=frame_size, default="160x320", metavar="HxW", help="of the frames, pixels")
    parser.add_argument("--n-frames", type=int, default=6, metavar="K", help="as INPUT.PIXPRO.N_FRAMES")
    parser.add_argument("--views", type=int, default=32, help="pairs of views of each video")
    parser.add_argument("--grid", type=int, default=7, metavar="G", help="the views have G x G features")
    parser.add_argument("--estimator", choices=ESTIMATORS, default="dis", help="of the flow to compare")
    parser.add_argument("--weights", metavar="FILE", help="of RAFT, as for extract_flow")
    parser.add_argument("--device", default="cpu", help="that RAFT runs on")
    parser.add_argument("--flow-scale", type=int, default=8, metavar="S", help="flow at 1/S of the resolution")
    parser.add_argument("--alpha1", type=float, default=0.01, help="of the consistency")
    parser.add_argument("--alpha2", type=float, default=0.5, help="of the consistency, pixels^2")
    parser.add_argument("--seed", type=int, default=0, help="of the videos and views")
    parser.add_argument("--json", action="store_true", help="print JSON")
    args = parser.parse_args(argv)
    for name in ("videos", "views", "grid", "flow_scale"):
        if getattr(args, name) < 1:
            parser.error(f"--{name.replace('_', '-')} must be at least 1")
    try:
        rows = measure(
            args.videos,
            build_estimator(args.estimator, args.weights, args.device, args.flow_scale),
            args.frames,
            args.size,
            args.n_frames,
            args.views,
            args.grid,
            (args.alpha1, args.alpha2),
            args.seed,
        )
    except UsageError as error:
        raise SystemExit(f"error: {error}") from None
    if args.json:
        print(json.dumps(rows))
        return
    print(f"{rows[0]['true']} true pairs")
    print(tabulate([_line(row) for row in rows], headers=HEADERS, disable_numparse=True, stralign="right"))


def _line(row):
    """Of the table, with shares in %."""
    shares = (row[name] for name in ("precision", "precision_clear", "recall", "hidden", "valid"))
    return [row["flow"], row["consistency"], row["claimed"], *(x if x is None else f"{100 * x:.2f}" for x in shares)]


if __name__ == "__main__":
    main()
