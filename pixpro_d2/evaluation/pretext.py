"""The evaluation of a pre-training on held-out images, which need no labels."""

import logging
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.evaluation.testing import flatten_results_dict

from ..data.pretrain.samples import build_view_mapper, load_samples
from ..modeling.pretrain.monitors import relative_distance
from ..modeling.pretrain.pixpro import PixPro
from ..modeling.pretrain.two_branch import TwoBranch
from ..utils.errors import UnreadableImage, UsageError
from ..utils.sampling import evenly_spread
from .dense_features import measure, table
from .neighbors import evaluate_neighbors

logger = logging.getLogger(__name__)

RECORDED = ("match_accuracy", "chance", "effective_rank", "effective_rank_projected", "height_r2", "uniformity")
COUNT = 256  # number of images, or of runs of frames, in an evaluation


def held_out_images(cfg: CfgNode) -> list[dict[str, Any]]:
    """Return the dicts of at most COUNT images of DATASETS.TEST, evenly spread, for a pre-training.

    With videos, return COUNT dicts of videos for random runs of frames; a video appears several times if there are
    fewer than COUNT videos. :func:`pixpro_d2.evaluation.dense_features.split_halves` keeps its runs together.

    Raises:
        UsageError: as :func:`pixpro_d2.data.pretrain.samples.load_samples`.
    """
    images = load_samples(cfg, "TEST")
    count = COUNT if cfg.INPUT.PIXPRO.N_FRAMES else min(COUNT, len(images))
    return evenly_spread(images, count)


def evaluate_pretext(cfg: CfgNode, model: PixPro) -> dict[str, Any]:
    """Evaluate a pre-training on DATASETS.TEST; the model and all random generators do not change.

    All processes must call this, because the losses need all processes. Each process evaluates all images.

    Args:
        cfg: config of a pre-training.
        model: not wrapped in DDP, in any mode.

    Returns:
        In every process

        * the names in RECORDED: by level, as in
          :func:`pixpro_d2.evaluation.dense_features.measure`;
        * test: feature_std (of the online projections, as in training, but with the norms' running statistics) and
          images_without_pair, by level;
        * ema_distance: relative distance of the target's weights from the online weights;
        * knn: for a data set with classes, see :func:`pixpro_d2.evaluation.neighbors.evaluate_neighbors`; by name for
          several data sets.

        The dict is empty without DATASETS.TEST.

    Raises:
        UsageError: if no image can be read.
    """
    names = cfg.DATASETS.TEST
    if not names:
        return {}
    mapper, images = build_view_mapper(cfg), held_out_images(cfg)
    try:
        levels = measure(model, mapper, images, retry_seconds=cfg.DATALOADER.RETRY_SECONDS)
    except UnreadableImage as error:
        raise UsageError(f"No image of DATASETS.TEST can be read, the last is {error}: restore the files.") from error
    results: dict[str, Any] = {"ema_distance": ema_distance(model)}
    if levels:
        logger.info(f"On {', '.join(names)}, without labels:\n{table(levels)}")
        for name in RECORDED:
            results[name] = {level: values[name] for level, values in levels.items()}
        results["test"] = {
            "feature_std": {level: values["feature_std_projected"] for level, values in levels.items()},
            "images_without_pair": {level: values["images_without_pair"] for level, values in levels.items()},
        }
    labelled = [name for name in names if MetadataCatalog.get(name).get("evaluator_type") == "classification"]
    if labelled:
        accuracies = {name: evaluate_neighbors(cfg, model, name) for name in labelled}
        results["knn"] = accuracies if len(labelled) > 1 else accuracies[labelled[0]]
    accuracies = flatten_results_dict(results.get("knn", {}))
    knn = "".join(f", {name} {value:.1f} %" for name, value in accuracies.items())
    logger.info(f"Distance of the target from the online branch {100 * results['ema_distance']:.2f} %{knn}")
    return results


def ema_distance(model: TwoBranch) -> float:
    """Return the L2 distance of the target's parameters from the online parameters, as a share of the latter's norm."""
    online, target = model.momentum_parameters()
    return relative_distance(target, online).item()
