"""The endless stream of samples that a downstream task is trained on, which a resumed run joins at any iteration."""

import contextlib
import random

import numpy as np
import torch
from detectron2.data.detection_utils import SizeMismatchError
from PIL import Image
from torch.utils.data import Dataset, Sampler

from ...utils.errors import UsageError
from ...utils.retry import patiently
from ..io.workers import explained

MAX_SUBSTITUTES = 100  # images that are tried in place of one that gives no sample


class StreamBatchSampler(Sampler):
    """Endless batches of (number, index) for one process; a sample's number is its place in the stream of all batches.

    Global batches are cut from the stream that detectron2's sampler shares out among the processes, and process r takes
    the r-th part of each. detectron2 groups the images of each process by their orientation; here the global batch is
    of one group, so that it does not depend on how many processes there are. A group waits until it fills a global
    batch, through as many passes over the data as that takes.
    """

    def __init__(self, sampler, groups, batch_size, rank=0, world_size=1):
        """
        Args:
            sampler (TrainingSampler or RepeatFactorTrainingSampler): detectron2's, with the same seed in all processes.
            groups (bytes): group of each image, 0 or 1; only images of one group share a batch.
            batch_size (int): of all processes together, divisible by ``world_size``.
        """
        self.sampler = sampler
        self.groups = groups
        self.batch_size = batch_size
        self.start_iter = 0
        self._part = slice(rank * batch_size // world_size, (rank + 1) * batch_size // world_size)

    def __iter__(self):
        for iteration, batch in enumerate(self._global_batches()):
            if iteration >= self.start_iter:
                yield list(enumerate(batch, start=iteration * self.batch_size))[self._part]

    def _global_batches(self):
        waiting = [], []
        # Iterating the sampler itself would give every world_size-th index only.
        for index in self.sampler._infinite_indices():
            batch = waiting[self.groups[index]]
            batch.append(index)
            if len(batch) == self.batch_size:
                yield batch.copy()
                batch.clear()


class StreamDataset(Dataset):
    """Samples by (number, index), each a function of the seed, its number and its image alone."""

    def __init__(self, images, mapper, seed, retry_seconds=0.0):
        """
        Args:
            images (Sequence[dict]): detectron2 dataset dicts.
            mapper (Callable[[dict], dict or None]): draws from the global generators of random, NumPy and PyTorch's
                CPU. Where it returns None, random other images are tried, as detectron2 does.
            seed (int): >= 0.
            retry_seconds (float): how long a file is tried again for when its disk or network mount fails.
        """
        self.images = images
        self.mapper = mapper
        self.seed = seed
        self.retry_seconds = retry_seconds

    def __len__(self):
        return len(self.images)

    def __getitem__(self, key):
        """
        Raises:
            UsageError: for an image that cannot be read or has another size than its dict says, and when none of
                many images gives a sample.
        """
        number, index = key
        for candidate in self._candidates(number, index):
            sample = self._map(number, self.images[candidate])
            if sample is not None:
                return sample
        raise UsageError(
            f"{type(self.mapper).__name__} makes no training sample of {self.images[index]['file_name']}, nor of any "
            f"of {min(MAX_SUBSTITUTES, len(self))} random images of DATASETS.TRAIN: look at what it leaves out."
        )

    def _candidates(self, number, index):
        yield index
        count = min(MAX_SUBSTITUTES, len(self))
        yield from np.random.default_rng((self.seed, number)).choice(len(self), count, replace=False).tolist()

    def _map(self, number, image):
        def read():  # seeded anew at each try
            with global_generators_seeded(self.seed, number):
                return self.mapper(image)

        try:
            return patiently(read, self.retry_seconds)
        except UsageError:
            raise
        except (OSError, ValueError, SizeMismatchError, Image.DecompressionBombError) as error:  # Pillow's about damage
            raise UsageError(
                f"{image['file_name']} cannot be trained on, restore it or take it out of DATASETS.TRAIN: {error}"
            ) from error


@contextlib.contextmanager
def global_generators_seeded(*entropy):
    """Context in which random, NumPy's and PyTorch's CPU generator are seeded from integers; then they are as before.

    In the main process, which loads the data itself without workers, the model draws from them.
    """
    python_state, numpy_state = random.getstate(), np.random.get_state()
    python_seed, numpy_seed, torch_seed = np.random.SeedSequence(entropy).generate_state(3).tolist()
    with torch.random.fork_rng(devices=[]):
        random.seed(python_seed)
        np.random.seed(numpy_seed)
        torch.default_generator.manual_seed(torch_seed)  # torch.manual_seed would seed the GPUs too
        try:
            yield
        finally:
            random.setstate(python_state)
            np.random.set_state(numpy_state)


class StreamLoader:
    """Endless iterable of the batches of one process, lists of samples."""

    def __init__(self, loader):
        """
        Args:
            loader (DataLoader): of a StreamDataset, with a StreamBatchSampler.
        """
        self.loader = loader

    def start_at(self, iteration):
        """Begin with the batch of ``iteration``; only before iterating. No image of those before is read."""
        self.loader.batch_sampler.start_iter = iteration

    def __iter__(self):
        return explained(self.loader)
