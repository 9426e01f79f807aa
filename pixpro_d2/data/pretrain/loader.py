"""The pre-training data loader: any registered data set, two views of each image, damaged files skipped."""

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from detectron2.config import CfgNode
from detectron2.utils import comm
from torch.utils.data import DataLoader, Dataset

from ...utils.errors import UnreadableImage, UsageError
from ...utils.retry import Patience
from ..io.file_list import ShardList, to_shared_list
from ..io.same_data import check_same_data
from ..io.workers import build_loader, with_worker_errors
from .collate import collate
from .sampler import EpochBatchSampler
from .samples import build_view_mapper, check_flow_names, epoch_length, load_samples

logger = logging.getLogger(__name__)

Mapper = Callable[[dict[str, Any], np.random.Generator], dict[str, Any]]  # TwoViewMapper or VideoMapper

MAX_REPLACEMENTS = 20  # number of damaged files in a row after which a sample fails


class ViewDataset(Dataset):
    """Provide samples by (epoch, index). All randomness of a sample comes from (seed, epoch, index).

    An unreadable image is replaced by another image, which is no neighbour: neighbours often fail together, after a
    copy that was interrupted. The sample lists the skipped images as (file name, message). A sample with no other entry
    means that MAX_REPLACEMENTS images in a row were unreadable. If a disk or mount fails instead of the image, reading
    is retried first.
    """

    def __init__(
        self,
        images: Sequence[dict[str, Any]],
        mapper: Mapper,
        seed: int,
        length: int | None = None,
        retry_seconds: float = 0.0,
    ) -> None:
        """
        Args:
            images: detectron2 dataset dicts of images or videos.
            mapper: makes a sample of a dataset dict, e.g. a TwoViewMapper.
            seed: seed of all randomness, >= 0.
            length: samples of an epoch, a multiple of the number of dicts; the number of dicts by default.
            retry_seconds: how long to retry a file, see :class:`pixpro_d2.utils.retry.Patience`.
        """
        self.images = images
        self.mapper = mapper
        self.seed = seed
        self.length = length or len(images)
        self._patience = Patience(retry_seconds)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, key: tuple[int, int]) -> dict[str, Any]:
        epoch, index = key
        skipped: list[tuple[str, str]] = []
        count, step = len(self), 0
        for attempt in range(min(MAX_REPLACEMENTS, count)):
            image = self.images[(index + attempt * step) % count % len(self.images)]
            try:
                sample = self._patience.read(partial(draw_sample, self.mapper, image, (self.seed, epoch, index)))
                return dict(sample, skipped=skipped)
            except UnreadableImage as error:
                skipped.append((image["file_name"], str(error)))
                step = step or _random_step(count, (self.seed, epoch, index))
        return {"skipped": skipped}  # ViewLoader raises the error, because a worker's error would carry a traceback


def draw_sample(mapper: Mapper, image: dict[str, Any], seeds: tuple[int, ...]) -> dict[str, Any]:
    """Make a sample of a dataset dict by random numbers of ``seeds`` alone, the same in each attempt to read a file."""
    return mapper(image, np.random.default_rng(seeds))


def _random_step(count: int, seeds: tuple[int, int, int]) -> int:
    """Return a random distance that leads once to each of ``count`` places of a ring before it returns."""
    drawn = np.random.default_rng(seeds).integers(1, max(count, 2), 100).tolist()
    return next((step for step in drawn if math.gcd(step, count) == 1), 1)


def _collate(samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    skipped = [item for sample in samples for item in sample["skipped"]]
    complete = all("views" in sample for sample in samples)
    return dict(collate(samples) if complete else {}, skipped=skipped)


class ViewLoader:
    """Iterate endlessly over batches (:func:`.collate`), and count the skipped images."""

    def __init__(
        self,
        loader: DataLoader,
        sampler: EpochBatchSampler,
        num_images: int,
        max_unreadable: float,
        what: str = "images",
    ) -> None:
        """
        Args:
            loader: yields batches with a list ``skipped`` of (file name, message).
            sampler: batch sampler of the loader.
            num_images: number of images, or videos, of the data set.
            max_unreadable: share of unreadable images, in [0, 1], above which iterating raises a UsageError.
            what: name of the images in messages.
        """
        self.loader = loader
        self.sampler = sampler
        self.num_images = num_images
        self.max_unreadable = max_unreadable
        self.what = what
        self.unreadable: set[str] = set()
        self._news: set[str] = set()  # unreadable images that other processes do not know yet

    def start_at(self, iteration: int) -> None:
        """Start with the batch of ``iteration``; call this method only before iterating."""
        self.sampler.start_iter = iteration

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for batch in with_worker_errors(self.loader):
            skipped = batch.pop("skipped")
            for file_name, message in skipped:
                self._count(file_name, message)
            if not batch:
                in_a_row = min(MAX_REPLACEMENTS, self.num_images)
                raise UsageError(f"{in_a_row} {self.what} in a row are unreadable, one is {skipped[-1][1]}.")
            yield batch

    def share_unreadable(self) -> None:
        """Add the images that other processes skipped to the count; all processes must call this method.

        Each process sees only a part of an epoch, and its own count may stay below the limit.

        Raises:
            UsageError: if too many images are unreadable, in all processes.
        """
        news, self._news = self._news, set()
        for others in comm.all_gather(news):
            self.unreadable |= others
        self._check(next(iter(news), "met by another process"))

    def _count(self, file_name: str, message: str) -> None:
        if file_name in self.unreadable:
            return
        self.unreadable.add(file_name)
        self._news.add(file_name)
        message = message.encode(errors="backslashreplace").decode()  # file names may not be UTF-8, but the log must be
        logger.warning(f"Skipped an unreadable image ({len(self.unreadable)} so far): {message}")
        self._check(message)

    def _check(self, last: str) -> None:
        if len(self.unreadable) > self.max_unreadable * self.num_images:
            raise UsageError(
                f"{len(self.unreadable)} of {self.num_images} {self.what} are unreadable, more than the share "
                f"DATALOADER.MAX_UNREADABLE {self.max_unreadable} allows; the last one is {last}."
            )


def build_view_loader(cfg: CfgNode) -> ViewLoader:
    """Build the pre-training loader of ``DATASETS.TRAIN`` with ``SOLVER.IMS_PER_BATCH`` images over all processes."""
    images, length = load_samples(cfg), epoch_length(cfg)
    check_same_data(images)
    check_flow_names(cfg, images)
    seed = cfg.SEED if cfg.SEED >= 0 else comm.shared_random_seed()
    shards = images.sizes if isinstance(images, ShardList) else ()
    sampler = EpochBatchSampler(length, cfg.SOLVER.IMS_PER_BATCH, seed, comm.get_rank(), comm.get_world_size(), shards)
    dataset = ViewDataset(
        to_shared_list(images), build_view_mapper(cfg), seed, length, retry_seconds=cfg.DATALOADER.RETRY_SECONDS
    )
    workers = cfg.DATALOADER.NUM_WORKERS, cfg.DATALOADER.MAX_IMAGE_PIXELS, cfg.MODEL.DEVICE
    loader = build_loader(dataset, _collate, *workers, batch_sampler=sampler)
    what = "videos" if cfg.INPUT.PIXPRO.N_FRAMES else "images"
    return ViewLoader(loader, sampler, len(images), cfg.DATALOADER.MAX_UNREADABLE, what)
