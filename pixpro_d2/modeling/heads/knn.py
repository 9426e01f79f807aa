"""Classification by the nearest neighbours in feature space: a test of a backbone without training."""

import logging
from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from detectron2.config import CfgNode, configurable
from detectron2.evaluation import inference_context
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.utils import comm
from detectron2.utils.logger import log_every_n_seconds
from torch import Tensor

from ...utils.errors import UsageError
from ..backbone import last_feature_channels
from .classifier import PooledBackbone

logger = logging.getLogger(__name__)

QUERIES_AT_ONCE = 64  # limits the similarities in memory: 164 MB for ImageNet's training set in half precision


def knn_votes(similarities: Tensor, labels: Tensor, k: int, num_classes: int, temperature: float) -> Tensor:
    """Count the votes of the k most similar neighbours, each weighted by exp(similarity / temperature).

    Wu et al. 2018 use these weights. The votes of an image are divided by their sum: the division changes no ranking
    and keeps the exponential finite.

    Args:
        similarities: (N, M) cosines of N images with M neighbours.
        labels: (M,) int64, the neighbours' classes in [0, num_classes).
        k: number of neighbours; more than M counts as M.
        num_classes: number of classes.
        temperature: > 0.

    Returns:
        (N, num_classes) float32, shares of the votes; each row sums to 1.
    """
    nearest, index = similarities.topk(min(k, similarities.shape[1]), dim=1)
    weights = (nearest.float() / temperature).softmax(dim=1)
    return weights.new_zeros(len(weights), num_classes).scatter_add_(1, labels[index], weights)


def gather_rows(rows: Tensor) -> Tensor:
    """Join ``rows`` (n, ...) of all processes, in the order of the processes; n may differ between processes."""
    if comm.get_world_size() == 1:
        return rows
    counts = comm.all_gather(len(rows))
    padded = rows.new_zeros(max(counts), *rows.shape[1:])
    padded[: len(rows)] = rows
    gathered = [torch.empty_like(padded) for _ in counts]
    torch.distributed.all_gather(gathered, padded)
    return torch.cat([part[:count] for part, count in zip(gathered, counts)])


@META_ARCH_REGISTRY.register()
class KNNClassifier(PooledBackbone):
    """Compare the L2-normalised pooled feature of an image with the features of all training images.

    The classifier is not trained: :meth:`fit` fills its memory, and no checkpoint holds the memory. The 1.28 million
    features of ImageNet take 5.2 GB in every process, for a ResNet-50 in half precision on a GPU.
    """

    @configurable
    def __init__(self, *, neighbors: list[int], temperature: float, **kwargs: Any) -> None:
        """
        Args:
            neighbors: numbers k of neighbours to evaluate.
            temperature: temperature of the votes.
            **kwargs: arguments of :class:`pixpro_d2.modeling.heads.classifier.PooledBackbone`.
        """
        super().__init__(**kwargs)
        self.neighbors = neighbors
        self.temperature = temperature
        self.bank: Tensor | None = None
        self.labels: Tensor | None = None

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
        neighbors, temperature = list(cfg.MODEL.CLASSIFIER.NEIGHBORS), cfg.MODEL.CLASSIFIER.TEMPERATURE
        return {**super().from_config(cfg), "neighbors": neighbors, "temperature": temperature}

    @property
    def precision(self) -> torch.dtype:
        """Return the type of the stored features."""
        return torch.float16 if self.device.type == "cuda" else torch.float32

    @torch.no_grad()
    def embed(self, batched_inputs: list[dict[str, Any]]) -> Tensor:
        """Return unit features (N, C) of N images, in the memory's precision."""
        return F.normalize(self.pooled_features(batched_inputs), dim=1).to(self.precision)

    def fit(self, loader: Iterable[list[dict[str, Any]]]) -> None:
        """Store the features of the training images; each process reads its share, and all processes store all.

        Args:
            loader: a finite loader of batches with ``image`` and ``category_id``, with the transform for testing.
        """
        channels = last_feature_channels(self.backbone)
        features = [torch.empty(0, channels, dtype=self.precision, device=self.device)]
        labels: list[int] = []
        with inference_context(self):
            for batch in filter(None, loader):  # a batch whose images are all unreadable is empty
                features.append(self.embed(batch))
                labels.extend(x["category_id"] for x in batch)
                log_every_n_seconds(logging.INFO, f"Features of {len(labels)} images in this process.", n=30)
        self.bank = gather_rows(torch.cat(features))
        self.labels = gather_rows(torch.tensor(labels, dtype=torch.int64, device=self.device))
        if len(self.bank) < max(self.neighbors):
            logger.warning(f"All {len(self.bank)} training images vote where MODEL.CLASSIFIER.NEIGHBORS asks for more.")

    def forward(self, batched_inputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return the votes for each image.

        Args:
            batched_inputs: one dict for each image, with ``image`` as in
                :class:`pixpro_d2.modeling.heads.classifier.LinearClassifier`.

        Returns:
            One dict for each image with ``scores``, which maps "knn<k>" to the shares (num_classes,) of the votes of
            the k nearest neighbours.
        """
        if self.training:
            raise UsageError("MODEL.META_ARCHITECTURE KNNClassifier is not trained: add --eval-only to the command.")
        if self.bank is None or self.labels is None:
            raise RuntimeError("KNNClassifier.fit(loader) must come before the first image.")
        outputs = []
        for features in self.embed(batched_inputs).split(QUERIES_AT_ONCE):
            similarities = features @ self.bank.T
            votes = {
                f"knn{k}": knn_votes(similarities, self.labels, k, self.num_classes, self.temperature)
                for k in self.neighbors
            }
            outputs += [{"scores": {name: x[i] for name, x in votes.items()}} for i in range(len(features))]
        return outputs
