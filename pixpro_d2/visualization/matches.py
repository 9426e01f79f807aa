"""Picture of which pixels of two views the features take for the same, against those that are."""

from dataclasses import dataclass

import numpy as np
import torch

from ..modeling.pretrain.monitors import match_accuracy, nearest_pixels
from ..modeling.pretrain.unit import unit
from .correspondence import VIEW_COLOURS, choose_queries, view_name
from .heat import overlay
from .sheet import SIDE, bin_box, draw_sheet, lay_out_rows, mark, outline, tile_canvas

RIGHT, WRONG = (110, 225, 60), (255, 80, 80)
TRUE = (255, 255, 255)  # outline of the true matches
COUNT = 3  # pixels whose similarities are shown


@dataclass(frozen=True)
class LevelMatches:
    """Matches from view 1 to view 2 at one level; bins are row-major.

    * grids: (H, W) of both views;
    * positives: (L1, L2) bool, true matches;
    * nearest: (L1,), bin of view 2 with the most similar feature;
    * accuracy: share of the bins with a true match whose nearest is one, NaN without any;
    * queries: (Q,), bins of view 1 that are looked at;
    * cosines: (Q, H2, W2), similarity of their features and those of view 2.
    """

    grids: tuple
    positives: np.ndarray
    nearest: np.ndarray
    accuracy: float
    queries: np.ndarray
    cosines: np.ndarray

    @property
    def right(self):
        """(L1,) bool: whose nearest is a true match."""
        return self.positives[np.arange(len(self.nearest)), self.nearest]

    @property
    def matched(self):
        """(L1,) bool: which have a true match."""
        return self.positives.any(axis=1)

    @property
    def chance(self):
        """Share of right matches that random choices would have, NaN without true ones."""
        return float(self.positives[self.matched].mean()) if self.matched.any() else float("nan")


def match_level(features, others, positives, count=COUNT):
    """Matches of one pair of views.

    Args:
        features, others (Tensor): (C, H1, W1) of view 1 and (C, H2, W2) of view 2.
        positives (Tensor): (L1, L2) bool.
        count (int): of queries; fewer where not so many have true matches of their own.

    Returns:
        LevelMatches:
    """
    features, others = features[None], others[None]
    grids = tuple(tuple(x.shape[2:]) for x in (features, others))
    mask = positives.cpu().numpy()
    queries = choose_queries(mask, grids[0], count)
    chosen = unit(features)[0].flatten(1)[:, torch.as_tensor(queries, device=features.device)]
    cosines = (chosen.T @ unit(others)[0].flatten(1)).view(-1, *grids[1])
    return LevelMatches(
        grids,
        mask,
        nearest_pixels(features, others)[0].cpu().numpy(),
        match_accuracy(features, others, positives[None]).item(),
        queries,
        cosines.cpu().numpy(),
    )


def draw_matches(views, boxes, levels, note):
    """A row for each level: view 1 with its right and wrong matches, and of some pixels the similarity in view 2.

    Args:
        views (Sequence[PIL.Image.Image]): view 1 and view 2, square, RGB.
        boxes (ndarray): (2, 4), their signed crop boxes.
        levels (dict[str, LevelMatches]): by name.
        note (str): what model it is; begins the text below.

    Returns:
        PIL.Image.Image: 1200 pixels wide.
    """
    rows = [_level_row(views, boxes, level, matches) for level, matches in levels.items()]
    accuracies = "; ".join(_describe(level, matches) for level, matches in levels.items())
    text = [
        f"{note}. Of the pixels of view 1 that show something in view 2, those whose most similar feature there (by "
        f"cosine) is a true match: {accuracies}.",
        "View 1: green bins find their match, red ones do not, the others have none. View 2: numbers stand at the "
        "true matches. Pixels: the similarity of view 2 to the numbered pixel of view 1, from its lowest to its "
        "highest; white lines surround the true matches, the mark is the most similar pixel, a dot if right, a cross "
        "if wrong.",
    ]
    return draw_sheet(lay_out_rows(rows), text, bar=("lowest cosine", "highest"))


def _describe(level, matches):
    if not matches.matched.any():
        return f"{level} none has one"
    right, matched = int((matches.right & matches.matched).sum()), int(matches.matched.sum())
    return f"{level} {right} of {matched}, {matches.accuracy:.0%} (by chance {matches.chance:.1%})"


def _level_row(views, boxes, level, matches):
    first = tile_canvas(views[0])
    for i in np.flatnonzero(matches.matched):
        first.fill(bin_box(i, matches.grids[0]), (*_verdict(matches, i), 75))
    for number, i in enumerate(matches.queries, start=1):
        mark(first, bin_box(i, matches.grids[0]), number, _verdict(matches, i))
    second = tile_canvas(views[1])
    for number, i in enumerate(matches.queries, start=1):
        bins = [bin_box(j, matches.grids[1]) for j in np.flatnonzero(matches.positives[i])]
        mark(second, np.mean(bins, axis=0), number, TRUE)
    row = [
        (canvas.finish(), f"{level}: {view_name(i, boxes[i])}, {grid[0]} x {grid[1]}", VIEW_COLOURS[i])
        for i, (canvas, grid) in enumerate(zip((first, second), matches.grids))
    ]
    for number, (i, cosines) in enumerate(zip(matches.queries, matches.cosines), start=1):
        low, high = cosines.min(), cosines.max()
        tile = tile_canvas(overlay(views[1], (cosines - low) / max(high - low, 1e-6), SIDE))
        outline(tile, matches.positives[i].reshape(matches.grids[1]), TRUE)
        _mark_nearest(tile, bin_box(matches.nearest[i], matches.grids[1]), matches.right[i])
        verdict = "right" if matches.right[i] else "wrong"
        row.append((tile.finish(), f"pixel {number}, {verdict}: {low:.2f} to {high:.2f}", _verdict(matches, i)))
    return row


def _verdict(matches, i):
    return RIGHT if matches.right[i] else WRONG


def _mark_nearest(tile, box, right):
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    if right:
        tile.dot((x, y), RIGHT, 6)
        return
    for colour, width in (((0, 0, 0, 150), 6), (WRONG, 3)):
        for rise in (-6, 6):
            tile.line((x - 6, y - rise), (x + 6, y + rise), colour, width)
