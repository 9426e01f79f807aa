"""The order of samples: each image once per epoch, the same for any number of workers and processes."""

import torch
from torch.utils.data import Sampler


class EpochBatchSampler(Sampler):
    """Endless batches of (epoch, index) for one process.

    Epoch e visits a permutation drawn from (seed, e), cut into global batches; the incomplete last one is
    dropped. Process r takes the r-th part of every global batch, so all processes together see the same
    batches as one process would. Iteration ``start_iter`` is where it begins, so a resumed run continues
    the order instead of repeating it.
    """

    def __init__(self, size, batch_size, seed, rank=0, world_size=1):
        """
        Args:
            size (int): number of images, at least ``batch_size``.
            batch_size (int): of all processes together, divisible by ``world_size``.
            seed (int): the same in all processes.
        """
        self.size = size
        self.batch_size = batch_size
        self.seed = seed
        self.start_iter = 0
        self._part = slice(rank * batch_size // world_size, (rank + 1) * batch_size // world_size)

    def __iter__(self):
        batches_per_epoch = self.size // self.batch_size
        epoch, first = divmod(self.start_iter, batches_per_epoch)
        while True:
            generator = torch.Generator().manual_seed(hash((self.seed, epoch)) % 2**63)
            order = torch.randperm(self.size, generator=generator)
            for batch in range(first, batches_per_epoch):
                indices = order[batch * self.batch_size : (batch + 1) * self.batch_size][self._part]
                yield [(epoch, index) for index in indices.tolist()]
            epoch, first = epoch + 1, 0
