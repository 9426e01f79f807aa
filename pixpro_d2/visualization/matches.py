"""Picture of the pixels of two views that match by their features, beside the pixels that truly match."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from ..modeling.pretrain.monitors import match_accuracy, nearest_pixels
from ..modeling.pretrain.unit import unit
from .correspondence import VIEW_COLOURS, choose_queries, view_name
from .figures import WIDTH, bar_block, contact_sheet, cover_map, text_block, to_image
from .marks import bin_boxes, centres, draw_crosses, draw_dots, draw_number, fill_boxes, outline
from .rows import add_square, rows_figure

RIGHT, WRONG = "#6ee13c", "#ff5050"
TRUE = "#ffffff"  # outline of the true matches
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


def match_level(features: Tensor, others: Tensor, positives: Tensor) -> LevelMatches:
    """Match the pixels of one pair of views; at most QUERY_COUNT pixels with true matches of their own are queries.

    Args:
        features, others: (C, H1, W1) of view 1 and (C, H2, W2) of view 2.
        positives: (L1, L2) bool.
    """
    features, others = features[None], others[None]
    first, second = ((x.shape[2], x.shape[3]) for x in (features, others))
    mask = positives.cpu().numpy()
    queries = choose_queries(mask, first, QUERY_COUNT)
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
    figure = rows_figure(len(levels))
    for row, (level, matches) in enumerate(levels.items()):
        _draw_level(figure, row, views, boxes, level, matches)
    accuracies = "; ".join(_describe(level, matches) for level, matches in levels.items())
    text = [
        f"{note}. Of the pixels of view 1 that show something in view 2, those whose most similar feature there (by "
        f"cosine) is a true match: {accuracies}.",
        "View 1: green bins find their match, red ones do not, the others have none. View 2: numbers stand at the "
        "true matches. Pixels: the similarity of view 2 to the numbered pixel of view 1, from its lowest to its "
        "highest; white lines surround the true matches, the mark is the most similar pixel, a dot if right, a cross "
        "if wrong.",
    ]
    return contact_sheet([to_image(figure), bar_block("lowest cosine", "highest", WIDTH), text_block(text, WIDTH)])


def _describe(level: str, matches: LevelMatches) -> str:
    if not matches.matched.any():
        return f"{level} none has one"
    right, matched = int((matches.right & matches.matched).sum()), int(matches.matched.sum())
    return f"{level} {right} of {matched}, {matches.accuracy:.0%} (by chance {matches.chance:.1%})"


def _draw_level(
    figure: Figure, row: int, views: Sequence[Image.Image], boxes: np.ndarray, level: str, matches: LevelMatches
) -> None:
    first, second = (bin_boxes(grid, view.size) for grid, view in zip(matches.grids, views))
    panels = [
        add_square(figure, row, i, views[i], f"{level}: {view_name(i, boxes[i])}, {height} x {width}", VIEW_COLOURS[i])
        for i, (height, width) in enumerate(matches.grids)
    ]
    matched = np.flatnonzero(matches.matched)
    fill_boxes(panels[0], first[matched], [_verdict(matches, i) for i in matched], 0.3)
    for number, (i, cosines) in enumerate(zip(matches.queries, matches.cosines), start=1):
        verdict, low, high = _verdict(matches, i), cosines.min(), cosines.max()
        draw_number(panels[0], centres(first[i]), number, verdict)
        draw_number(panels[1], centres(second[matches.positives[i]]).mean(axis=0), number, TRUE)
        said = "right" if matches.right[i] else "wrong"
        axes = add_square(
            figure, row, 1 + number, views[1], f"pixel {number}, {said}: {low:.2f} to {high:.2f}", verdict
        )
        cover_map(axes, (cosines - low) / max(high - low, 1e-6))
        outline(axes, matches.positives[i].reshape(matches.grids[1]), TRUE, views[1].size)
        nearest = centres(second[matches.nearest[i]])
        if matches.right[i]:
            draw_dots(axes, nearest, RIGHT, 6)
        else:
            draw_crosses(axes, nearest, WRONG, 6, 3)


def _verdict(matches: LevelMatches, i: int | np.integer) -> str:
    return RIGHT if matches.right[i] else WRONG
