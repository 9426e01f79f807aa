"""DenseCL: pixels matched by their features, against other images (Wang et al., CVPR 2021, arXiv 2011.09157)."""

import torch
import torch.nn.functional as F
from torch import nn

from ...distributed import gather_keys
from ..monitors import nearest_pixels
from .base import PixelMethod


def densecl_loss(q, k, matches, negatives, temperature):
    """Dense contrast of one direction, >= 0: the mean over all query pixels.

    Args:
        q, k (Tensor): (N, C, H, W), L2-normalised over C.
        matches (Tensor): (N, Lq) int64, the pixel of ``k`` that is the positive of each query pixel.
        negatives (Tensor): (K, C), L2-normalised.
        temperature (float): tau.

    Returns:
        Tensor: 0-d, float32.
    """
    q, k = (x.float().flatten(2).transpose(1, 2) for x in (q, k))  # (N, L, C)
    matched = k.gather(1, matches[:, :, None].expand(-1, -1, k.shape[2]))
    positive = (q * matched).sum(dim=2) / temperature  # (N, Lq)
    negative = (q @ negatives.T / temperature).logsumexp(dim=2)
    # -log(e^p / (e^p + e^n)) = log(1 + e^(n - p))
    return F.softplus(negative - positive).mean()


class KeyQueue(nn.Module):
    """The newest keys of earlier iterations, a ring that a checkpoint holds.

    ``vectors`` is (K, C); ``position`` the row of the oldest key, which the next one replaces. Starts with random
    unit vectors, the same in every process.
    """

    def __init__(self, size, channels):
        """
        Args:
            size (int): K, from 1 up.
            channels (int): C.
        """
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.register_buffer("vectors", F.normalize(torch.randn(size, channels, generator=generator), dim=1))
        self.register_buffer("position", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def push(self, keys):
        """Replace the oldest vectors by ``keys`` (M, C), the oldest of which comes first.

        One that is not finite, out of a bad batch, leaves the vector whose turn it is.
        """
        size = len(self.vectors)
        keys = keys[-size:]
        rows = (self.position + torch.arange(len(keys), device=keys.device)) % size
        keys = torch.where(keys.isfinite().all(dim=1, keepdim=True), keys, self.vectors[rows])
        # Not in place: the loss that was computed with the vectors still needs them for its gradient.
        self.vectors = self.vectors.index_copy(0, rows, keys)
        self.position = (self.position + len(keys)) % size


class DenseCLMethod(PixelMethod):
    """Contrast of each pixel with its match in the other view and a queue of other images' keys.

    The match of a pixel is the one of the other view whose backbone feature, by the target branch, is most
    similar to its own; geometry plays no part. A queued key is the L2-normalised mean of the (L2-normalised) keys of a
    view. The paper asks with one view and takes keys from the other; here both directions count, each half.
    """

    def __init__(self, levels, channels, queue_size=65536, temperature=0.2, weight=0.5):
        """
        Args:
            levels (list[str]): feature levels; each has a queue of its own.
            channels (int): of queries and keys.
            queue_size (int): K.
            temperature (float): tau.
            weight (float): lambda, of the mean of both directions.
        """
        super().__init__()
        self.temperature = temperature
        self.weight = weight
        self.queues = nn.ModuleDict({level: KeyQueue(queue_size, channels) for level in levels})

    @classmethod
    def from_config(cls, cfg):
        pixpro = cfg.MODEL.PIXPRO
        return cls(
            pixpro.IN_FEATURES,
            pixpro.PROJECTOR.OUT_DIM,
            pixpro.DENSECL.QUEUE_SIZE,
            pixpro.TEMPERATURE,
            pixpro.DENSECL.WEIGHT,
        )

    def direction(self, level, query, key, positives):
        matches = nearest_pixels(query.features, key.target_features)
        negatives = self.queues[level].vectors
        return self.weight / 2 * densecl_loss(query.queries, key.keys, matches, negatives, self.temperature)

    def forward(self, level, views, positives):
        """As :meth:`PixelMethod.forward`; in training the keys of both views of all processes are queued afterwards."""
        loss = super().forward(level, views, positives)
        if self.training:
            pooled = [F.normalize(view.keys.mean(dim=(2, 3)), dim=1) for view in views]
            # Image by image rather than view by view, so that the order does not depend on the number of processes.
            keys, _ = gather_keys(torch.stack(pooled, dim=1))
            self.queues[level].push(keys.flatten(0, 1))
        return loss
