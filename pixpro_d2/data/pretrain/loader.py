"""The pre-training data loader: any registered data set, two views of each image, damaged files skipped."""

import logging

import numpy as np
from detectron2.utils import comm
from torch.utils.data import Dataset

from ...utils.errors import UsageError
from ...utils.retry import may_pass, patiently
from ..io.file_list import shareable
from ..io.reader import UnreadableImage
from ..io.workers import build_loader, explained
from .collate import collate_videos
from .sampler import EpochBatchSampler
from .samples import build_view_mapper, epoch_length, load_samples

logger = logging.getLogger(__name__)

MAX_REPLACEMENTS = 20  # damaged files in a row before a sample is given up


class ViewDataset(Dataset):
    """Samples by (epoch, index). All randomness of a sample comes from (seed, epoch, index).

    An unreadable image is replaced by the next readable one; what was skipped is reported in the sample as
    (file name, message). A sample of nothing else says that MAX_REPLACEMENTS images in a row were unreadable.
    Where not the image but its disk or mount fails, it is tried again first.
    """

    def __init__(self, images, mapper, seed, length=None, retry_seconds=0.0):
        """
        Args:
            images (Sequence[dict]): detectron2 dataset dicts, of images or videos.
            mapper (Callable[[dict, numpy.random.Generator], dict]): e.g. a TwoViewMapper.
            seed (int): >= 0.
            length (int): samples of an epoch, a multiple of the number of dicts; that number by default.
            retry_seconds (float): how long :func:`.patiently` tries again. A mount that stays away is not waited for
                anew with every file: only after one that could be read.
        """
        self.images = images
        self.mapper = mapper
        self.seed = seed
        self.length = length or len(images)
        self.retry_seconds = self._patience = retry_seconds

    def __len__(self):
        return self.length

    def __getitem__(self, key):
        epoch, index = key
        skipped = []
        for _ in range(min(MAX_REPLACEMENTS, len(self))):
            image = self.images[index % len(self.images)]
            try:
                return dict(self._map(image, (self.seed, epoch, index)), skipped=skipped)
            except UnreadableImage as error:
                skipped.append((image["file_name"], str(error)))
                index = (index + 1) % len(self)
        return {"skipped": skipped}  # ViewLoader raises: an error out of a worker would carry a traceback

    def _map(self, image, seeds):
        try:
            sample = patiently(lambda: self.mapper(image, np.random.default_rng(seeds)), self._patience)
        except UnreadableImage as error:
            if may_pass(error):
                self._patience = 0
            raise
        self._patience = self.retry_seconds
        return sample


def _collate(samples):
    skipped = [item for sample in samples for item in sample["skipped"]]
    complete = all("views" in sample for sample in samples)
    return dict(collate_videos(samples) if complete else {}, skipped=skipped)


class ViewLoader:
    """Endless iterable of batches (:func:`.collate_videos`), which counts the images that had to be skipped."""

    def __init__(self, loader, sampler, num_images, max_unreadable, what="images"):
        """
        Args:
            loader (Iterable[dict]): batches with a list ``skipped`` of (file name, message).
            sampler (EpochBatchSampler): the loader's.
            num_images (int): images, or videos, of the data set.
            max_unreadable (float): share of it that may be unreadable before iterating raises a UsageError.
            what (str): what they are called in messages.
        """
        self.loader = loader
        self.sampler = sampler
        self.num_images = num_images
        self.max_unreadable = max_unreadable
        self.what = what
        self.unreadable = set()
        self._news = set()  # of these, what other processes do not know yet

    def start_at(self, iteration):
        """Begin with the batch of ``iteration``; only before iterating."""
        self.sampler.start_iter = iteration

    def __iter__(self):
        for batch in explained(self.loader):
            skipped = batch.pop("skipped")
            for file_name, message in skipped:
                self._count(file_name, message)
            if not batch:
                in_a_row = min(MAX_REPLACEMENTS, self.num_images)
                raise UsageError(f"{in_a_row} {self.what} in a row are unreadable, one is {skipped[-1][1]}.")
            yield batch

    def share_unreadable(self):
        """Count what other processes had to skip too; all must call it.

        Each sees a part of an epoch only, in which there need not be more than a share of the whole.

        Raises:
            UsageError: as iterating does, in all processes.
        """
        news, self._news = self._news, set()
        for others in comm.all_gather(news):
            self.unreadable |= others
        self._check(next(iter(news), "met by another process"))

    def _count(self, file_name, message):
        if file_name in self.unreadable:
            return
        self.unreadable.add(file_name)
        self._news.add(file_name)
        message = message.encode(errors="backslashreplace").decode()  # a name need not be UTF-8, what is printed must
        logger.warning(f"Skipped an unreadable image ({len(self.unreadable)} so far): {message}")
        self._check(message)

    def _check(self, last):
        if len(self.unreadable) > self.max_unreadable * self.num_images:
            raise UsageError(
                f"{len(self.unreadable)} of {self.num_images} {self.what} are unreadable, more than the share "
                f"DATALOADER.MAX_UNREADABLE {self.max_unreadable} allows; the last one is {last}."
            )


def build_view_loader(cfg):
    """Pre-training loader of ``DATASETS.TRAIN`` with ``SOLVER.IMS_PER_BATCH`` images over all processes."""
    images, length = load_samples(cfg), epoch_length(cfg)
    seed = cfg.SEED if cfg.SEED >= 0 else comm.shared_random_seed()
    sampler = EpochBatchSampler(length, cfg.SOLVER.IMS_PER_BATCH, seed, comm.get_rank(), comm.get_world_size())
    dataset = ViewDataset(
        shareable(images), build_view_mapper(cfg), seed, length, retry_seconds=cfg.DATALOADER.RETRY_SECONDS
    )
    workers = cfg.DATALOADER.NUM_WORKERS, cfg.DATALOADER.MAX_IMAGE_PIXELS
    loader = build_loader(dataset, _collate, *workers, batch_sampler=sampler)
    what = "videos" if cfg.INPUT.PIXPRO.N_FRAMES else "images"
    return ViewLoader(loader, sampler, len(images), cfg.DATALOADER.MAX_UNREADABLE, what)
