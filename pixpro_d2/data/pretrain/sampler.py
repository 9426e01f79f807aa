"""The order of samples: each image once per epoch, the same for any number of workers and processes."""

from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import Sampler

from ...utils.errors import UsageError

SHUFFLED_IMAGES = 10_000  # range of the shuffling of images in shards: about 1 GB of photographs


def batches_per_epoch(num_images: int, batch_size: int) -> int:
    """Return the number of complete batches in one pass over the data; the incomplete last batch is dropped.

    Raises:
        UsageError: if there is no complete batch.
    """
    if num_images < batch_size:
        raise UsageError(
            f"An epoch of DATASETS.TRAIN is {num_images} images, less than one batch of {batch_size}: lower "
            "SOLVER.IMS_PER_BATCH, or with videos raise INPUT.PIXPRO.STARTS_PER_VIDEO."
        )
    return num_images // batch_size


def shard_order(sizes: Sequence[int], rng: np.random.Generator) -> np.ndarray:
    """Return the images of an epoch, an int array, so that reading goes once through each shard, from begin to end.

    The shards come in random order. Then each image moves by less than SHUFFLED_IMAGES places.

    Args:
        sizes: number of images in each shard.
        rng: source of all randomness.
    """
    shards = np.split(np.arange(sum(sizes)), np.cumsum(sizes)[:-1])
    order = np.concatenate([shards[i] for i in rng.permutation(len(shards))])
    return order[np.argsort(np.arange(len(order)) + rng.uniform(0, SHUFFLED_IMAGES, len(order)))]


class EpochBatchSampler(Sampler):
    """Yield endless batches of (epoch, index) for one process.

    Epoch e visits a permutation drawn from (seed, e), cut into global batches; the incomplete last batch is
    dropped. Process r takes the r-th part of every global batch, so all processes together see the same
    batches as a single process would. The order starts at iteration ``start_iter``, so a resumed run continues
    the order instead of repeating it.
    """

    def __init__(
        self, size: int, batch_size: int, seed: int, rank: int = 0, world_size: int = 1, shards: Sequence[int] = ()
    ) -> None:
        """
        Args:
            size: number of images; fewer than ``batch_size`` raise a UsageError.
            batch_size: batch size of all processes together, divisible by ``world_size``.
            seed: seed of the order, the same in all processes.
            rank: number of this process.
            world_size: number of processes.
            shards: number of images in each shard, ``size`` together, for the order of :func:`shard_order`.
        """
        self.size = size
        self.batch_size = batch_size
        self.batches_per_epoch = batches_per_epoch(size, batch_size)
        self.seed = seed
        self.shards = shards
        self.start_iter = 0
        self._part = slice(rank * batch_size // world_size, (rank + 1) * batch_size // world_size)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        epoch, first = divmod(self.start_iter, self.batches_per_epoch)
        while True:
            rng = np.random.default_rng((self.seed, epoch))
            order = shard_order(self.shards, rng) if self.shards else rng.permutation(self.size)
            for batch in range(first, self.batches_per_epoch):
                indices = order[batch * self.batch_size : (batch + 1) * self.batch_size][self._part]
                yield [(epoch, index) for index in indices.tolist()]
            epoch, first = epoch + 1, 0
