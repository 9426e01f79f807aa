"""Classes predicted by the nearest neighbours among the test images: a test of a backbone in pre-training."""

import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from torch import Tensor

from ..config import with_values
from ..data.downstream.build import build_test_loader
from ..modeling.heads.knn import QUERIES_AT_ONCE, KNNClassifier, knn_votes
from ..modeling.pretrain.pixpro import PixPro
from ..utils.modules import eval_mode


def leave_one_out(features: Tensor, labels: Tensor, neighbors: list[int], temperature: float) -> dict[str, float]:
    """Return the share of images that are classified correctly by their nearest neighbours among all other images.

    Args:
        features: (N, C) unit vectors.
        labels: (N,) int64 classes.
        neighbors: numbers k of neighbours, see :func:`pixpro_d2.modeling.heads.knn.knn_votes`.
        temperature: temperature of the votes.

    Returns:
        "knn<k>_top1" in per cent; NaN for fewer than two images, which have no neighbours.
    """
    if len(features) < 2:
        return {f"knn{k}_top1": float("nan") for k in neighbors}
    hits = dict.fromkeys(neighbors, 0)
    for rows in torch.arange(len(features), device=features.device).split(QUERIES_AT_ONCE):
        similarities = features[rows] @ features.T
        similarities.scatter_(1, rows[:, None], float("-inf"))  # no image votes for itself
        for k in neighbors:
            votes = knn_votes(similarities, labels, k, int(labels.max()) + 1, temperature)
            hits[k] += int((votes.argmax(dim=1) == labels[rows]).sum())
    return {f"knn{k}_top1": 100 * count / len(features) for k, count in hits.items()}


def evaluate_neighbors(cfg: CfgNode, model: PixPro, name: str) -> dict[str, float]:
    """Compute the kNN accuracy of a pre-training's online backbone on a data set with classes.

    :func:`leave_one_out` computes the accuracy. The images are cropped as for the kNN classifier
    (``INPUT.CLASSIFICATION``). Unreadable images are skipped, as in the pre-training. The processes share the images,
    and all processes must call this.

    Args:
        cfg: config of the pre-training.
        model: not wrapped in DDP; it does not change.
        name: name of the data set.

    Returns:
        The result of :func:`leave_one_out`, in every process.
    """
    num_classes = 1 + max(image["category_id"] for image in DatasetCatalog.get(name))
    # The loader takes the mapper of the meta-architecture.
    values = {"MODEL.META_ARCHITECTURE": "KNNClassifier", "MODEL.CLASSIFIER.NUM_CLASSES": num_classes}
    cfg = with_values(cfg, values)
    classifier = KNNClassifier(
        backbone=model.backbone,
        num_classes=num_classes,
        pixel_mean=cfg.MODEL.PIXEL_MEAN,
        pixel_std=cfg.MODEL.PIXEL_STD,
        neighbors=list(cfg.MODEL.CLASSIFIER.NEIGHBORS),
        temperature=cfg.MODEL.CLASSIFIER.TEMPERATURE,
    ).to(model.device)
    with eval_mode(model):
        classifier.fit(build_test_loader(cfg, name, skip_unreadable=True))
    return leave_one_out(classifier.bank, classifier.labels, classifier.neighbors, classifier.temperature)
