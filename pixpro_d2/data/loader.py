"""The pre-training data loader: any registered data set, two views of each image, damaged files skipped."""

import functools
import logging

import cv2
import numpy as np
import torch
from detectron2.data import DatasetCatalog
from detectron2.data.build import worker_init_reset_seed
from detectron2.data.common import DatasetFromList
from detectron2.utils import comm
from torch.utils.data import DataLoader, Dataset

from ..errors import UsageError
from ..flow import FlowFiles
from .catalog import ensure_registered
from .datasets.video import drop_short
from .mapper import TwoViewMapper
from .reader import UnreadableImage
from .sampler import EpochBatchSampler
from .video_collate import collate_videos
from .video_mapper import VideoMapper

logger = logging.getLogger(__name__)

MAX_REPLACEMENTS = 20  # damaged files in a row before a sample is given up


@functools.lru_cache(maxsize=1)
def load_images(names):
    """Dicts of all images (or videos) of the data sets ``names`` (tuple of str), which need nothing but ``file_name``.

    Cached, because the length of a run in epochs needs their number before the loader needs them.

    Raises:
        UsageError: for no data set, or one without images.
    """
    if not names:
        raise UsageError("DATASETS.TRAIN is empty: name a data set, or a folder as ('images:DIR',).")
    ensure_registered(names)
    images = []
    for name in names:
        dicts = DatasetCatalog.get(name)
        if not dicts:
            raise UsageError(f"Data set '{name}' of DATASETS.TRAIN has no images.")
        kind = "videos" if "num_frames" in dicts[0] else "images"
        logger.info(f"Data set '{name}': {len(dicts)} {kind}.")
        images.extend(dicts)
    return images


def load_samples(cfg):
    """Dicts that an epoch of pre-training visits.

    Images; or with ``INPUT.PIXPRO.N_FRAMES`` the videos that have so many frames, each ``STARTS_PER_VIDEO`` times.

    Raises:
        UsageError: for no data set, one without images, or videos where images are wanted or the other way round.
    """
    found, pixpro = load_images(tuple(cfg.DATASETS.TRAIN)), cfg.INPUT.PIXPRO
    if pixpro.N_FRAMES:
        return drop_short(found, pixpro.N_FRAMES) * pixpro.STARTS_PER_VIDEO
    if any("num_frames" in sample for sample in found):
        raise UsageError("DATASETS.TRAIN has videos: set INPUT.PIXPRO.N_FRAMES, 1 to take both views from one frame.")
    return found


def build_view_mapper(cfg):
    """Mapper of images, or with ``INPUT.PIXPRO.N_FRAMES`` of videos, to samples of two views."""
    n_frames = cfg.INPUT.PIXPRO.N_FRAMES
    if not n_frames:
        return TwoViewMapper(cfg)
    files = cfg.MODEL.PIXPRO.FLOW.FILES
    return VideoMapper(
        cfg,
        num_frames=n_frames,
        flow=FlowFiles(files) if files and n_frames > 1 else None,
        give_frames=not files,
        swap_p=cfg.INPUT.PIXPRO.SWAP_P,
    )


class ViewDataset(Dataset):
    """Samples by (epoch, index). All randomness of a sample comes from (seed, epoch, index).

    An unreadable image is replaced by the next readable one; what was skipped is reported in the sample as
    (file name, message). A sample of nothing else says that MAX_REPLACEMENTS images in a row were unreadable.
    """

    def __init__(self, images, mapper, seed):
        """
        Args:
            images (Sequence[dict]): detectron2 dataset dicts.
            mapper (Callable[[dict, numpy.random.Generator], dict]): e.g. a TwoViewMapper.
            seed (int): >= 0.
        """
        self.images = images
        self.mapper = mapper
        self.seed = seed

    def __len__(self):
        return len(self.images)

    def __getitem__(self, key):
        epoch, index = key
        skipped = []
        for _ in range(min(MAX_REPLACEMENTS, len(self))):
            rng = np.random.default_rng((self.seed, epoch, index))
            try:
                return dict(self.mapper(self.images[index], rng), skipped=skipped)
            except UnreadableImage as error:
                skipped.append((self.images[index]["file_name"], str(error)))
                index = (index + 1) % len(self)
        return {"skipped": skipped}  # ViewLoader raises: an error out of a worker would carry a traceback


def _collate(samples):
    skipped = [item for sample in samples for item in sample["skipped"]]
    complete = all("views" in sample for sample in samples)
    return dict(collate_videos(samples) if complete else {}, skipped=skipped)


def _init_worker(worker):
    cv2.setNumThreads(0)  # the workers share the cores already; OpenCV's threads would not survive a fork either
    worker_init_reset_seed(worker)


class ViewLoader:
    """Endless iterable of batches (:func:`.collate_videos`), which counts the images that had to be skipped."""

    def __init__(self, loader, sampler, num_images, max_unreadable):
        """
        Args:
            loader (Iterable[dict]): batches with a list ``skipped`` of (file name, message).
            sampler (EpochBatchSampler): the loader's.
            num_images (int): size of the data set.
            max_unreadable (float): share of it that may be unreadable before iterating raises a UsageError.
        """
        self.loader = loader
        self.sampler = sampler
        self.num_images = num_images
        self.max_unreadable = max_unreadable
        self.unreadable = set()

    def start_at(self, iteration):
        """Begin with the batch of ``iteration``; only before iterating."""
        self.sampler.start_iter = iteration

    def __iter__(self):
        for batch in self.loader:
            skipped = batch.pop("skipped")
            for file_name, message in skipped:
                self._count(file_name, message)
            if not batch:
                in_a_row = min(MAX_REPLACEMENTS, self.num_images)
                raise UsageError(f"{in_a_row} images in a row are unreadable, one is {skipped[-1][1]}.")
            yield batch

    def _count(self, file_name, message):
        if file_name in self.unreadable:
            return
        self.unreadable.add(file_name)
        logger.warning(f"Skipped an unreadable image ({len(self.unreadable)} so far): {message}")
        if len(self.unreadable) > self.max_unreadable * self.num_images:
            raise UsageError(
                f"{len(self.unreadable)} of {self.num_images} images are unreadable, more than the share "
                f"DATALOADER.MAX_UNREADABLE {self.max_unreadable} allows; the last one is {message}."
            )


def build_view_loader(cfg):
    """Pre-training loader of ``DATASETS.TRAIN`` with ``SOLVER.IMS_PER_BATCH`` images over all processes."""
    images = load_samples(cfg)
    seed = cfg.SEED if cfg.SEED >= 0 else comm.shared_random_seed()
    sampler = EpochBatchSampler(len(images), cfg.SOLVER.IMS_PER_BATCH, seed, comm.get_rank(), comm.get_world_size())
    loader = DataLoader(
        ViewDataset(DatasetFromList(images, copy=False), build_view_mapper(cfg), seed),
        batch_sampler=sampler,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        collate_fn=_collate,
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=_init_worker,
    )
    return ViewLoader(loader, sampler, len(images), cfg.DATALOADER.MAX_UNREADABLE)
