"""Picture of the pixels of two views that match by their features, beside the pixels that truly match."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..modeling.pretrain.monitors import match_accuracy, nearest_pixels
from ..modeling.pretrain.unit import unit
from .canvas import Canvas, Colour
from .correspondence import VIEW_COLOURS, choose_queries, view_name
from .heat import overlay
from .sheet import SIDE, bin_box, draw_sheet, lay_out_rows, mark, outline, tile_canvas

RIGHT, WRONG = (110, 225, 60), (255, 80, 80)
TRUE = (255, 255, 255)  # outline of the true matches
QUERY_COUNT = 3  # pixels whose similarities are shown


@dataclass(frozen=True)
class LevelMatches:
    """Hold the matches from view 1 to view 2 at one level; bins are row-major.

    * grids: (H, W) of both views;
    * positives: (L1, L2) bool, true matches;
    * nearest: (L1,), bin of view 2 with the most similar feature;
    * accuracy: share of right nearest bins among the bins with a true match, NaN without true matches;
    * queries: (Q,), bins of view 1 whose similarities are shown;
    * cosines: (Q, H2, W2), similarity of the queries' features and the features of view 2.
    """

    grids: tuple[tuple[int, int], tuple[int, int]]
    positives: np.ndarray
    nearest: np.ndarray
    accuracy: float
    queries: np.ndarray
    cosines: np.ndarray

    @property
    def right(self) -> np.ndarray:
        """Return for each bin, (L1,) bool, whether its nearest bin is a true match."""
        return self.positives[np.arange(len(self.nearest)), self.nearest]

    @property
    def matched(self) -> np.ndarray:
        """Return for each bin, (L1,) bool, whether it has a true match."""
        return np.any(self.positives, axis=1)

    @property
    def chance(self) -> float:
        """Return the share of right matches of random choices, NaN without true matches."""
        return float(self.positives[self.matched].mean()) if self.matched.any() else float("nan")


def match_level(features: Tensor, others: Tensor, positives: Tensor, count: int = QUERY_COUNT) -> LevelMatches:
    """Match the pixels of one pair of views.

    Args:
        features, others: (C, H1, W1) of view 1 and (C, H2, W2) of view 2.
        positives: (L1, L2) bool.
        count: maximum number of queries; fewer if fewer bins have true matches of their own.
    """
    features, others = features[None], others[None]
    first, second = ((x.shape[2], x.shape[3]) for x in (features, others))
    mask = positives.cpu().numpy()
    queries = choose_queries(mask, first, count)
    chosen = unit(features)[0].flatten(1)[:, torch.as_tensor(queries, device=features.device)]
    cosines = (chosen.T @ unit(others)[0].flatten(1)).view(-1, *second)
    return LevelMatches(
        (first, second),
        mask,
        nearest_pixels(features, others)[0].cpu().numpy(),
        match_accuracy(features, others, positives[None]).item(),
        queries,
        cosines.cpu().numpy(),
    )


def draw_matches(
    views: Sequence[Image.Image], boxes: np.ndarray, levels: dict[str, LevelMatches], note: str
) -> Image.Image:
    """Draw a row for each level: view 1 with its right and wrong matches, and the similarity of view 2 to some pixels.

    Args:
        views: view 1 and view 2, square, RGB.
        boxes: (2, 4), their signed crop boxes.
        levels: matches by name of the level.
        note: name of the model; begins the text below.

    Returns:
        A picture 1200 pixels wide.
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


def _describe(level: str, matches: LevelMatches) -> str:
    if not matches.matched.any():
        return f"{level} none has one"
    right, matched = int((matches.right & matches.matched).sum()), int(matches.matched.sum())
    return f"{level} {right} of {matched}, {matches.accuracy:.0%} (by chance {matches.chance:.1%})"


def _level_row(
    views: Sequence[Image.Image], boxes: np.ndarray, level: str, matches: LevelMatches
) -> list[tuple[Image.Image, str, Colour]]:
    first = tile_canvas(views[0])
    for i in np.flatnonzero(matches.matched):
        first.fill(bin_box(i, matches.grids[0]), (*_verdict(matches, i), 75))
    for number, i in enumerate(matches.queries, start=1):
        mark(first, bin_box(i, matches.grids[0]), number, _verdict(matches, i))
    second = tile_canvas(views[1])
    for number, i in enumerate(matches.queries, start=1):
        bins = [bin_box(j, matches.grids[1]) for j in np.flatnonzero(matches.positives[i])]
        mark(second, np.mean(bins, axis=0), number, TRUE)
    row: list[tuple[Image.Image, str, Colour]] = [
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


def _verdict(matches: LevelMatches, i: int | np.integer) -> Colour:
    return RIGHT if matches.right[i] else WRONG


def _mark_nearest(tile: Canvas, box: Sequence[float], right: bool) -> None:
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    if right:
        tile.dot((x, y), RIGHT, 6)
        return
    for colour, width in (((0, 0, 0, 150), 6), (WRONG, 3)):
        for rise in (-6, 6):
            tile.line((x - 6, y - rise), (x + 6, y + rise), colour, width)
