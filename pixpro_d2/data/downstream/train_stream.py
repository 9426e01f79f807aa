"""The endless stream of training samples of a downstream task, which a resumed run joins at any iteration."""

import contextlib
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from detectron2.data.detection_utils import SizeMismatchError
from PIL import Image
from torch.utils.data import DataLoader, Dataset, Sampler

from ...utils.errors import UsageError
from ...utils.retry import retry
from ..io.workers import with_worker_errors

MAX_SUBSTITUTES = 100  # number of images tried in place of an image that gives no sample


class StreamBatchSampler(Sampler):
    """Yield endless batches of (number, index) for one process; the number is the sample's place in the whole stream.

    Global batches are cut from the stream of detectron2's sampler for all processes, and process r takes the r-th part
    of each batch. detectron2 groups the images of each process by their orientation. Here all images of a global batch
    have the same group, so that the batch does not depend on the number of processes. A group waits until it fills a
    global batch, if necessary through several passes over the data.
    """

    def __init__(self, sampler: Any, groups: bytes, batch_size: int, rank: int = 0, world_size: int = 1) -> None:
        """
        Args:
            sampler: detectron2's TrainingSampler or RepeatFactorTrainingSampler, with the same seed in all processes.
            groups: group of each image, 0 or 1; only images of the same group share a batch.
            batch_size: batch size of all processes together, divisible by ``world_size``.
            rank: number of this process.
            world_size: number of processes.
        """
        self.sampler = sampler
        self.groups = groups
        self.batch_size = batch_size
        self.start_iter = 0
        self._part = slice(rank * batch_size // world_size, (rank + 1) * batch_size // world_size)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for iteration, batch in enumerate(self._global_batches()):
            if iteration >= self.start_iter:
                yield list(enumerate(batch, start=iteration * self.batch_size))[self._part]

    def _global_batches(self) -> Iterator[list[int]]:
        waiting: tuple[list[int], list[int]] = [], []
        # Iterating the sampler itself would yield only every world_size-th index.
        for index in self.sampler._infinite_indices():
            batch = waiting[self.groups[index]]
            batch.append(index)
            if len(batch) == self.batch_size:
                yield batch.copy()
                batch.clear()


class StreamDataset(Dataset):
    """Provide samples by (number, index); each sample depends only on the seed, its number and its image."""

    def __init__(
        self,
        images: Sequence[dict[str, Any]],
        mapper: Callable[[dict[str, Any]], dict[str, Any] | None],
        seed: int,
        retry_seconds: float = 0.0,
    ) -> None:
        """
        Args:
            images: detectron2 dataset dicts.
            mapper: makes a sample of a dict, and draws from the global generators of random, NumPy and PyTorch's
                CPU. If the mapper returns None, random other images are tried, as in detectron2.
            seed: seed of all randomness, >= 0.
            retry_seconds: how long reading a file is retried if its disk or network mount fails.
        """
        self.images = images
        self.mapper = mapper
        self.seed = seed
        self.retry_seconds = retry_seconds

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        """Return the sample of (number, index).

        Raises:
            UsageError: if an image is unreadable, its size differs from the size in its dict, or none of
                many images gives a sample.
        """
        number, index = key
        for candidate in self._candidates(number, index):
            sample = self._map(number, self.images[candidate])
            if sample is not None:
                return sample
        raise UsageError(
            f"{type(self.mapper).__name__} makes no training sample of {self.images[index]['file_name']}, nor of any "
            f"of {min(MAX_SUBSTITUTES, len(self))} random images of DATASETS.TRAIN: check which images it skips."
        )

    def _candidates(self, number: int, index: int) -> Iterator[int]:
        yield index
        count = min(MAX_SUBSTITUTES, len(self))
        yield from np.random.default_rng((self.seed, number)).choice(len(self), count, replace=False).tolist()

    def _map(self, number: int, image: dict[str, Any]) -> dict[str, Any] | None:
        def read() -> dict[str, Any] | None:  # seeded again in each attempt
            with global_generators_seeded(self.seed, number):
                return self.mapper(image)

        try:
            return retry(read, self.retry_seconds)
        except UsageError:
            raise
        except (
            OSError,
            ValueError,
            SizeMismatchError,
            Image.DecompressionBombError,
        ) as error:  # Pillow's for damage
            raise UsageError(
                f"{image['file_name']} cannot be trained on, restore it or take it out of DATASETS.TRAIN: {error}"
            ) from error


@contextlib.contextmanager
def global_generators_seeded(*entropy: int) -> Iterator[None]:
    """Seed the generators of random, NumPy and PyTorch's CPU inside the context, and restore their states afterwards.

    Without workers, the main process loads the data itself, and the model draws from the same generators.
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
    """Iterate endlessly over the batches of a process, lists of samples."""

    def __init__(self, loader: DataLoader) -> None:
        """
        Args:
            loader: loader of a StreamDataset with a StreamBatchSampler.
        """
        self.loader = loader

    def start_at(self, iteration: int) -> None:
        """Start with the batch of ``iteration`` without reading earlier images; call this only before iterating."""
        sampler: Any = self.loader.batch_sampler
        sampler.start_iter = iteration

    def __iter__(self) -> Iterator[list[dict[str, Any]]]:
        return with_worker_errors(self.loader)
