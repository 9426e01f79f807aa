"""DenseCL: pixels matched by their features, against other images (Wang et al., CVPR 2021, arXiv 2011.09157)."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...distributed import gather_keys
from ..monitors import nearest_pixels
from .base import LevelView, PixelMethod

if TYPE_CHECKING:
    from detectron2.config import CfgNode


def densecl_loss(q: Tensor, k: Tensor, matches: Tensor, negatives: Tensor, temperature: float) -> Tensor:
    """Compute the dense contrast of one direction, >= 0: the mean over all query pixels.

    Args:
        q, k: (N, C, H, W), L2-normalised over C.
        matches: (N, Lq) int64, the pixel of ``k`` that is the positive of each query pixel.
        negatives: (K, C), L2-normalised.
        temperature: tau.

    Returns:
        0-d, float32.
    """
    q, k = (x.float().flatten(2).transpose(1, 2) for x in (q, k))  # (N, L, C)
    matched = k.gather(1, matches[:, :, None].expand(-1, -1, k.shape[2]))
    positive = (q * matched).sum(dim=2) / temperature  # (N, Lq)
    negative = (q @ negatives.T / temperature).logsumexp(dim=2)
    # -log(e^p / (e^p + e^n)) = log(1 + e^(n - p))
    return F.softplus(negative - positive).mean()


class KeyQueue(nn.Module):
    """Keep the newest keys of earlier iterations in a ring, which checkpoints contain.

    ``vectors`` is (K, C). ``position`` is the row of the oldest key, which the next key replaces. The queue starts with
    random unit vectors, the same in every process.
    """

    vectors: Tensor
    position: Tensor

    def __init__(self, size: int, channels: int) -> None:
        """
        Args:
            size: K, from 1 up.
            channels: C.
        """
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.register_buffer("vectors", F.normalize(torch.randn(size, channels, generator=generator), dim=1))
        self.register_buffer("position", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def push(self, keys: Tensor) -> None:
        """Replace the oldest vectors by ``keys`` (M, C), whose oldest key comes first.

        A key that is not finite, from a bad batch, is skipped: the vector in its row stays.
        """
        size = len(self.vectors)
        keys = keys[-size:]
        rows = (self.position + torch.arange(len(keys), device=keys.device)) % size
        keys = torch.where(keys.isfinite().all(dim=1, keepdim=True), keys, self.vectors[rows])
        # Not in place: the gradient of the loss still needs the old vectors.
        self.vectors = self.vectors.index_copy(0, rows, keys)
        self.position = (self.position + len(keys)) % size


class DenseCLMethod(PixelMethod):
    """Contrast each pixel with its match in the other view and a queue of other images' keys.

    A pixel's match is the pixel of the other view with the most similar backbone feature, by the target branch.
    Geometry plays no part. A queued key is the L2-normalised mean of the (L2-normalised) keys of a view. The paper
    takes queries from one view and keys from the other; here both directions count, each half.
    """

    def __init__(
        self,
        levels: Sequence[str],
        channels: int,
        queue_size: int = 65536,
        temperature: float = 0.2,
        weight: float = 0.5,
    ) -> None:
        """
        Args:
            levels: feature levels; each has a queue of its own.
            channels: channels of queries and keys.
            queue_size: K.
            temperature: tau.
            weight: lambda, factor of the mean of both directions.
        """
        super().__init__()
        self.temperature = temperature
        self.weight = weight
        self.queues = nn.ModuleDict({level: KeyQueue(queue_size, channels) for level in levels})

    @classmethod
    def from_config(cls, cfg: "CfgNode") -> "DenseCLMethod":
        pixpro = cfg.MODEL.PIXPRO
        return cls(
            pixpro.IN_FEATURES,
            pixpro.PROJECTOR.OUT_DIM,
            pixpro.DENSECL.QUEUE_SIZE,
            pixpro.TEMPERATURE,
            pixpro.DENSECL.WEIGHT,
        )

    def _queue(self, level: str) -> KeyQueue:
        return cast(KeyQueue, self.queues[level])

    def direction(self, level: str, query: LevelView, key: LevelView, positives: Tensor) -> Tensor:
        matches = nearest_pixels(query.features, key.target_features)
        negatives = self._queue(level).vectors
        return self.weight / 2 * densecl_loss(query.queries, key.keys, matches, negatives, self.temperature)

    def forward(self, level: str, views: tuple[LevelView, LevelView], positives: tuple[Tensor, Tensor]) -> Tensor:
        """Sum the losses of both directions; in training, queue the keys of both views of all processes afterwards."""
        loss = super().forward(level, views, positives)
        if self.training:
            pooled = [F.normalize(view.keys.mean(dim=(2, 3)), dim=1) for view in views]
            # Image by image rather than view by view, so that the order does not depend on the number of processes.
            keys, _ = gather_keys(torch.stack(pooled, dim=1))
            self._queue(level).push(keys.flatten(0, 1))
        return loss
