"""Pictures of a pre-training model's attention, features and matches on fixed views.

The functions take the result of :func:`pixpro_d2.visualization.views.compare_views`. Levels of a single pixel are
skipped, because they show nothing.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import pil_to_tensor

from ..modeling.pretrain.monitors import feature_std
from ..modeling.pretrain.projector import LevelHeads
from ..modeling.pretrain.two_branch import LevelComparison
from ..modeling.pretrain.unit import unit
from .attention import PLACES, attention_maps, draw_attention, pixels_at
from .features import draw_features, fit_basis, to_colours
from .matches import draw_matches, match_level


def picture_attention(
    comparisons: Mapping[str, LevelComparison], i: int, ppm: LevelHeads, view: Image.Image, note: str
) -> Image.Image:
    """Draw the attention of the pixel propagation module in the first view of image ``i``.

    Args:
        comparisons: comparison of N images at each level.
        i: number of the image.
        ppm: the model's modules by level.
        view: the first view of the image.
        note: begins the caption.

    Returns:
        The picture of :func:`pixpro_d2.visualization.attention.draw_attention`.
    """
    maps = {}
    for level, x in with_pixels(comparisons).items():
        pixels = pixels_at(PLACES, x.projection.shape[2:])
        module: Any = ppm[level]
        maps[level] = pixels, attention_maps(x.projection[i], pixels, module.gamma).cpu().numpy()
    return draw_attention(view, maps, note)


def picture_matches(
    comparisons: Mapping[str, LevelComparison], i: int, views: Sequence[Image.Image], boxes: np.ndarray, note: str
) -> Image.Image:
    """Draw the matches between both views of image ``i`` by the backbone's features.

    Args:
        comparisons, i, note: as in :func:`picture_attention`.
        views: first and second view of the image.
        boxes: (2, 4), signed crop boxes of the views.

    Returns:
        The picture of :func:`pixpro_d2.visualization.matches.draw_matches`.
    """
    levels = {
        level: match_level(x.views[0].features[i], x.views[1].features[i], x.positives[i])
        for level, x in with_pixels(comparisons).items()
    }
    return draw_matches(views, boxes, levels, note)


def picture_features(
    comparisons: Mapping[str, LevelComparison],
    images: Sequence[Image.Image],
    note: str,
    references: dict[str, Tensor] | None = None,
) -> tuple[Image.Image, dict[str, Tensor]]:
    """Draw the features of the first views of all images in colours, by one basis for each level.

    Args:
        comparisons: comparison of N images at each level.
        images: the N first views.
        note: begins the caption.
        references: the second result of this function for an earlier state of the model, to keep its colours. By
            default the colours come as close as possible to the colours of the images.

    Returns:
        The picture of :func:`pixpro_d2.visualization.features.draw_features`, and for each level the coordinates
        (P, 3) of all pixels in its basis, float32 on the CPU.
    """
    references = dict(references or {})
    levels: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    facts = []
    for level, x in with_pixels(comparisons).items():
        online, target = (_pixels(features) for features in (x.views[0].features, x.views[0].target_features))
        grid = x.views[0].features.shape[2:]
        if level not in references or len(references[level]) != len(online):
            references[level] = _colours_of(images, grid)
        basis = fit_basis(online, references[level])
        references[level] = basis.coordinates(online).cpu()
        shape = (len(images), *grid, 3)
        first, second = (to_colours(basis.coordinates(pixels)).view(shape).cpu().numpy() for pixels in (online, target))
        levels[level] = first, second
        std, healthy = feature_std(x.views[0].features).item(), online.shape[1] ** -0.5
        facts.append(f"{level} {basis.share:.0%} of the variance, standard deviation {std:.3f} ({healthy:.3f})")
    notes = [
        f"{note}. Pixels of like colour have like features: red, green and blue are the three main components of a "
        "level's features, the same for all images and both branches. Maps that look alike for all images show the "
        "place in the view rather than what is there.",
        f"The components hold: {'; '.join(facts)}. In brackets what spread features have; grey is collapse.",
    ]
    return draw_features(images, levels, notes), references


def with_pixels(comparisons: Mapping[str, LevelComparison]) -> dict[str, LevelComparison]:
    """Return the levels, by name, whose first view has more than one pixel."""
    return {level: x for level, x in comparisons.items() if x.views[0].queries[0, 0].numel() > 1}


def _pixels(features: Tensor) -> Tensor:
    """Return unit vectors (P, C) of all pixels of (N, C, H, W)."""
    return unit(features).permute(0, 2, 3, 1).flatten(0, 2)


def _colours_of(images: Sequence[Image.Image], grid: Sequence[int]) -> Tensor:
    """Return the mean colours (P, 3) of N images below the bins of a ``grid`` (H, W)."""
    pixels = torch.stack([pil_to_tensor(image) for image in images]).float()
    return F.adaptive_avg_pool2d(pixels, (grid[0], grid[1])).permute(0, 2, 3, 1).flatten(0, 2)
