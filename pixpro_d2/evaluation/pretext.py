"""The evaluation of a pre-training on held-out images, which need no labels."""

import logging

from detectron2.data import MetadataCatalog
from detectron2.evaluation.testing import flatten_results_dict

from ..data.pretrain.samples import build_view_mapper, load_samples
from ..modeling.pretrain.monitors import relative_distance
from .dense_features import measure, table
from .neighbors import evaluate_neighbors

logger = logging.getLogger(__name__)

RECORDED = ("match_accuracy", "chance", "effective_rank", "effective_rank_projected", "height_r2", "uniformity")
COUNT = 256  # images, or runs of frames, that an evaluation looks at


def held_out_images(cfg):
    """Dicts (list) of at most COUNT images of DATASETS.TEST, evenly spread, for a pre-training.

    Of videos COUNT random runs of frames, several of one where there are fewer.

    Raises:
        UsageError: as :func:`pixpro_d2.data.pretrain.samples.load_samples`.
    """
    images = load_samples(cfg, "TEST")
    count = COUNT if cfg.INPUT.PIXPRO.N_FRAMES else min(COUNT, len(images))
    return [images[i * len(images) // count] for i in range(count)]


def evaluate_pretext(cfg, model):
    """Evaluate a pre-training on DATASETS.TEST; the model and all random generators stay as they are.

    All processes must call it, since losses between them are computed on the way; each looks at all images.

    Args:
        cfg (CfgNode): of a pre-training.
        model (PixPro): not wrapped in DDP, in any mode.

    Returns:
        dict: in every process

        * RECORDED: by level, as
          :func:`pixpro_d2.evaluation.dense_features.measure` gives them;
        * test: feature_std (of the online projections, as that of training, but with the norms' running statistics) and
          images_without_pair, by level;
        * ema_distance: relative distance of the target's weights from the online ones;
        * knn: for a data set with classes, see :func:`pixpro_d2.evaluation.neighbors.evaluate_neighbors`; by name for
          several.

        Empty without DATASETS.TEST.
    """
    names = cfg.DATASETS.TEST
    if not names:
        return {}
    levels = measure(model, build_view_mapper(cfg), held_out_images(cfg))
    results = {"ema_distance": ema_distance(model)}
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


def ema_distance(model):
    """L2 distance of the target's parameters from the online branch's, as a share of the norm of these; float."""
    pairs = model.momentum_pairs()
    online = [parameter for module, _ in pairs for parameter in module.parameters()]
    target = [parameter for _, module in pairs for parameter in module.parameters()]
    return relative_distance(target, online).item()
