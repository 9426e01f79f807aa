"""Pictures of what a pre-training model makes of fixed views: attention, features and matches.

Functions of the dict[str, LevelComparison] of :func:`pixpro_d2.visualization.views.compare_views`. Levels of a
single pixel are left out, there is nothing to see in them.
"""

import torch
import torch.nn.functional as F
from torchvision.transforms.functional import pil_to_tensor

from ..modeling.pretrain.monitors import feature_std
from ..modeling.pretrain.unit import unit
from .attention import PLACES, attention_maps, draw_attention, pixels_at
from .features import draw_features, fit_basis, to_colours
from .matches import draw_matches, match_level


def picture_attention(comparisons, i, ppm, view, note):
    """Attention of the pixel propagation module in the first view of image ``i``.

    Args:
        comparisons (dict[str, LevelComparison]): of N images.
        i (int): one of them.
        ppm (LevelHeads): the model's modules by level.
        view (PIL.Image.Image): the view.
        note (str): begins the caption.

    Returns:
        PIL.Image.Image: see :func:`pixpro_d2.visualization.attention.draw_attention`.
    """
    maps = {}
    for level, x in with_pixels(comparisons).items():
        pixels = pixels_at(PLACES, x.projection.shape[2:])
        maps[level] = pixels, attention_maps(x.projection[i], pixels, ppm[level].gamma).cpu().numpy()
    return draw_attention(view, maps, note)


def picture_matches(comparisons, i, views, boxes, note):
    """Matches between both ``views`` (PIL images, of the signed crop ``boxes``) of image ``i`` by the backbone's
    features; further as above.

    Returns:
        PIL.Image.Image: see :func:`pixpro_d2.visualization.matches.draw_matches`.
    """
    levels = {
        level: match_level(*(view.features[i] for view in x.views), x.positives[i])
        for level, x in with_pixels(comparisons).items()
    }
    return draw_matches(views, boxes, levels, note)


def picture_features(comparisons, images, note, references=None):
    """Features of the first views of all images in colours, by one basis for each level.

    Args:
        comparisons (dict[str, LevelComparison]): of N images.
        images (list[PIL.Image.Image]): the N views.
        note (str): begins the caption.
        references (dict[str, Tensor]): what this function returned for an earlier state of the model, whose colours
            are kept; by default the colours come as close to those of the images as they can.

    Returns:
        tuple: the PIL.Image.Image of :func:`pixpro_d2.visualization.features.draw_features`, and
        dict[str, Tensor], for each level (P, 3) float32 on the CPU.
    """
    references, levels, facts = dict(references or {}), {}, []
    for level, x in with_pixels(comparisons).items():
        online, target = (_pixels(features) for features in (x.views[0].features, x.views[0].target_features))
        grid = x.views[0].features.shape[2:]
        if level not in references or len(references[level]) != len(online):
            references[level] = _colours_of(images, grid)
        basis = fit_basis(online, references[level])
        references[level] = basis.coordinates(online).cpu()
        shape = (len(images), *grid, 3)
        levels[level] = tuple(
            to_colours(basis.coordinates(pixels)).view(shape).cpu().numpy() for pixels in (online, target)
        )
        std, healthy = feature_std(x.views[0].features).item(), online.shape[1] ** -0.5
        facts.append(f"{level} {basis.share:.0%} of the variance, standard deviation {std:.3f} ({healthy:.3f})")
    notes = [
        f"{note}. Pixels of like colour have like features: red, green and blue are the three main components of a "
        "level's features, the same for all images and both branches. Maps that look alike for all images show the "
        "place in the view rather than what is there.",
        f"The components hold: {'; '.join(facts)}. In brackets what spread features have; grey is collapse.",
    ]
    return draw_features(images, levels, notes), references


def with_pixels(comparisons):
    """Those levels, by name, whose first view has more than one pixel."""
    return {level: x for level, x in comparisons.items() if x.views[0].queries[0, 0].numel() > 1}


def _pixels(features):
    """(P, C) unit vectors of all pixels of (N, C, H, W)."""
    return unit(features).permute(0, 2, 3, 1).flatten(0, 2)


def _colours_of(images, grid):
    """Mean colours (P, 3) of N images below the bins of a ``grid`` (H, W)."""
    pixels = torch.stack([pil_to_tensor(image) for image in images]).float()
    return F.adaptive_avg_pool2d(pixels, tuple(grid)).permute(0, 2, 3, 1).flatten(0, 2)
