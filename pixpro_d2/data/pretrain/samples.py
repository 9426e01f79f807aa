"""The images or videos that an epoch of pre-training visits, and their mapper to samples."""

import functools
import logging
from collections.abc import Sequence
from typing import Any

from detectron2.config import CfgNode

from ...flow_files import FlowFiles
from ...utils.errors import UsageError
from ..datasets.catalog import ensure_registered, expire_registered, is_name, load_dicts
from ..datasets.video import check_names, drop_short, drop_without_flow
from ..io.file_list import FileList, JoinedLists, joined
from .mapper import TwoViewMapper
from .video_mapper import VideoMapper

logger = logging.getLogger(__name__)


def read_images(names: tuple[str, ...]) -> Sequence[dict[str, Any]]:
    """Load the dicts of all images (or videos) of the data sets ``names``, with all labels.

    The result is a list if the dicts of all data sets are lists.

    Raises:
        UsageError: if ``names`` is empty, or if a data set cannot be loaded or has no images.
    """
    if not names:
        raise UsageError("DATASETS.TRAIN is empty: name a data set, such as images:DIR or voc:DIR@SPLIT.")
    ensure_registered(names)
    parts = []
    for name in names:
        dicts = load_dicts(name)
        kind = "videos" if "num_frames" in dicts[0] else "images"
        logger.info(f"Data set '{name}': {len(dicts)} {kind}.")
        parts.append(dicts)
    return joined(parts)


# Cached for training and for testing: the length of a run in epochs needs the number of images before the loader.
load_images = functools.lru_cache(maxsize=2)(read_images)


def load_samples(cfg: CfgNode, split: str = "TRAIN") -> Sequence[dict[str, Any]]:
    """Load the dicts of the images of ``DATASETS``, or with ``INPUT.PIXPRO.N_FRAMES`` of the videos of enough frames.

    Args:
        cfg: config of a pre-training.
        split: TRAIN or TEST, the key below ``DATASETS``.

    Raises:
        UsageError: if there is no data set, if a data set is empty, or if the config needs images and gets videos or
            the reverse.
    """
    key, names, n_frames = f"DATASETS.{split}", tuple(cfg.DATASETS[split]), cfg.INPUT.PIXPRO.N_FRAMES
    if n_frames:
        return _long_videos(key, names, n_frames, _flow_files(cfg))
    images = load_images(names)
    if _has_videos(images):
        raise UsageError(f"{key} has videos: set INPUT.PIXPRO.N_FRAMES, 1 to take both views from one frame.")
    return images


def check_flow_names(cfg: CfgNode, trained: Sequence[dict[str, Any]]) -> None:
    """Check that no video of DATASETS.TEST has the name, and so the flow, of another video in DATASETS.TRAIN.

    Args:
        cfg: resolved config.
        trained: dataset dicts of DATASETS.TRAIN.

    Raises:
        UsageError: as :func:`pixpro_d2.data.datasets.video.check_names` and :func:`load_samples`.
    """
    if _flow_files(cfg) and cfg.DATASETS.TEST:
        check_names([*trained, *load_samples(cfg, "TEST")], _flow_files(cfg))


def _flow_files(cfg: CfgNode) -> str:
    return cfg.MODEL.PIXPRO.FLOW.FILES if cfg.INPUT.PIXPRO.N_FRAMES > 1 else ""


def _has_videos(images: Any) -> bool:
    if isinstance(images, JoinedLists):
        return any(_has_videos(part) for part in images.datasets)
    return not isinstance(images, FileList) and any("num_frames" in image for image in images)


@functools.lru_cache(maxsize=2)  # for training and for testing
def _long_videos(key: str, names: tuple[str, ...], n_frames: int, flow_files: str) -> Sequence[dict[str, Any]]:
    videos = drop_short(load_images(names), n_frames, key)
    return drop_without_flow(videos, FlowFiles(flow_files)) if flow_files else videos


def forget_files() -> None:
    """Forget the files of data sets that this process has read, because they may have changed since."""
    expire_registered()
    load_images.cache_clear()
    _long_videos.cache_clear()


def epoch_length(cfg: CfgNode) -> int:
    """Return the number of samples of an epoch: each image once, each video INPUT.PIXPRO.STARTS_PER_VIDEO times."""
    starts = cfg.INPUT.PIXPRO.STARTS_PER_VIDEO
    return len(load_samples(cfg)) * (starts if cfg.INPUT.PIXPRO.N_FRAMES else 1)


def dataset_name(cfg: CfgNode, place: str) -> str:
    """Return the name of a data set for pre-training by ``cfg`` on images or videos.

    Args:
        cfg: config of a pre-training.
        place: a name such as ``voc:DIR@SPLIT``, or a folder, or an archive of images.
    """
    return place if is_name(place) else f"{'video' if cfg.INPUT.PIXPRO.N_FRAMES else 'images'}:{place}"


def build_view_mapper(cfg: CfgNode) -> TwoViewMapper:
    """Build the mapper of images, or with ``INPUT.PIXPRO.N_FRAMES`` of videos, to samples of two views."""
    pixpro, files = cfg.INPUT.PIXPRO, cfg.MODEL.PIXPRO.FLOW.FILES
    if not pixpro.N_FRAMES:
        return TwoViewMapper(cfg)
    return VideoMapper(
        cfg,
        num_frames=pixpro.N_FRAMES,
        flow=FlowFiles(files) if files and pixpro.N_FRAMES > 1 else None,
        give_frames=not files,
        swap_p=pixpro.SWAP_P,
    )
