"""Classification by the nearest neighbours in feature space: a test of a backbone without training."""

import logging

import torch
import torch.nn.functional as F
from detectron2.config import configurable
from detectron2.evaluation import inference_context
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.utils import comm
from detectron2.utils.logger import log_every_n_seconds

from ...utils.errors import UsageError
from ..backbone import last_feature_channels
from .classifier import PooledBackbone

logger = logging.getLogger(__name__)

QUERIES_AT_ONCE = 64  # bounds the similarities in memory: 164 MB for ImageNet's training set in half precision


def knn_votes(similarities, labels, k, num_classes, temperature):
    """Votes of the k most similar neighbours, each weighted by exp(similarity / temperature) (Wu et al. 2018).

    The votes of an image are divided by their sum, which changes no ranking and keeps the exponential finite.

    Args:
        similarities (Tensor): (N, M) cosines of N images with M neighbours.
        labels (Tensor): (M,) int64, the neighbours' classes in [0, num_classes).
        k (int): more than M counts as M.
        num_classes (int):
        temperature (float): > 0.

    Returns:
        Tensor: (N, num_classes) float32, shares of the votes; each row sums to 1.
    """
    nearest, index = similarities.topk(min(k, similarities.shape[1]), dim=1)
    weights = (nearest.float() / temperature).softmax(dim=1)
    return weights.new_zeros(len(weights), num_classes).scatter_add_(1, labels[index], weights)


def gather_rows(rows):
    """Join ``rows`` (n, ...) of all processes, whose numbers n may differ, in the order of the processes."""
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
    """Compares the L2-normalised pooled feature of an image with those of all training images.

    It is evaluated only: :meth:`fit` fills its memory, which no checkpoint holds. In half precision on a GPU, the
    1.28 million features of ImageNet take 5.2 GB for a ResNet-50, in every process.
    """

    @configurable
    def __init__(self, *, neighbors, temperature, **kwargs):
        """
        Args:
            neighbors (list[int]): numbers k of neighbours to evaluate.
            temperature (float): of the votes.
            **kwargs: of :class:`pixpro_d2.modeling.heads.classifier.PooledBackbone`.
        """
        super().__init__(**kwargs)
        self.neighbors = neighbors
        self.temperature = temperature
        self.bank = None
        self.labels = None

    @classmethod
    def from_config(cls, cfg):
        neighbors, temperature = list(cfg.MODEL.CLASSIFIER.NEIGHBORS), cfg.MODEL.CLASSIFIER.TEMPERATURE
        return {**super().from_config(cfg), "neighbors": neighbors, "temperature": temperature}

    @property
    def precision(self):
        """Type of the remembered features."""
        return torch.float16 if self.device.type == "cuda" else torch.float32

    @torch.no_grad()
    def embed(self, batched_inputs):
        """Unit features (N, C) of a list[dict] of N images, in the memory's precision."""
        return F.normalize(self.pooled_features(batched_inputs), dim=1).to(self.precision)

    def fit(self, loader):
        """Remember the images of ``loader``, in each process its share of the training set, for all processes.

        Args:
            loader (Iterable[list[dict]]): a finite loader of batches with ``image`` and ``category_id``, with the
                transform for testing.
        """
        channels = last_feature_channels(self.backbone)
        features, labels = [torch.empty(0, channels, dtype=self.precision, device=self.device)], []
        with inference_context(self):
            for batch in loader:
                features.append(self.embed(batch))
                labels.extend(x["category_id"] for x in batch)
                log_every_n_seconds(logging.INFO, f"Features of {len(labels)} images in this process.", n=30)
        self.bank = gather_rows(torch.cat(features))
        self.labels = gather_rows(torch.tensor(labels, dtype=torch.int64, device=self.device))
        if len(self.bank) < max(self.neighbors):
            logger.warning(f"All {len(self.bank)} training images vote where MODEL.CLASSIFIER.NEIGHBORS asks for more.")

    def forward(self, batched_inputs):
        """
        Args:
            batched_inputs: list[dict], one for each image, with ``image`` as in
                :class:`pixpro_d2.modeling.heads.classifier.LinearClassifier`.

        Returns:
            list[dict], one for each image: ``scores``, with the shares of the votes of the k nearest neighbours as
            "knn<k>": (num_classes,).
        """
        if self.training:
            raise UsageError("MODEL.META_ARCHITECTURE KNNClassifier is not trained: add --eval-only to the command.")
        if self.bank is None:
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
