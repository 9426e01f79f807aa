"""``video:DIR``: one sub-folder of frames a video, in the order of their names; and BDD100K's videos."""

import logging
import os
import re
import time

from detectron2.data import DatasetCatalog

from ...utils.errors import UsageError
from ...utils.files import read_json, write_json
from .images import is_image
from .paths import check_exists, is_hidden

logger = logging.getLogger(__name__)

INDEX = ".pixpro_index.json"  # in the folder of the videos: their numbers of frames
VERSION = 1
SETTLED = 2.0  # seconds after which a folder that changes again certainly gets another time stamp


def list_frames(folder):
    """Paths of the image files in ``folder``, told by their extension, hidden ones left out.

    They are sorted by name, numbers in it by their value: frame9.jpg comes before frame10.jpg.
    """
    return [os.path.join(folder, name) for name in sorted(filter(is_image, os.listdir(folder)), key=_natural)]


def _natural(name):
    # Text and numbers take turns, so that only like is compared with like. The name decides between 1 and 01.
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)], name


def count_frames(root):
    """Number of frames (dict of str to int) of each folder in ``root``, sorted by name; hidden ones are left out.

    Numbers are kept in the file INDEX of ``root``, if it can be written, and hold as long as a folder's time stamp.
    """
    index = os.path.join(root, INDEX)
    known, found, now = _read_index(index), {}, time.time_ns()
    for entry in sorted(os.scandir(root), key=lambda entry: entry.name):
        if entry.is_dir() and not is_hidden(entry.name):
            changed = entry.stat().st_mtime_ns
            before, frames = known.get(entry.name, (None, None))
            found[entry.name] = changed, frames if before == changed else len(list_frames(entry.path))
    settled = {name: list(item) for name, item in found.items() if now - item[0] > SETTLED * 1e9}
    if settled != known:
        _write_index(index, settled)
    return {name: frames for name, (_, frames) in found.items()}


def _read_index(path):
    content = read_json(path)
    try:
        known = {name: [int(changed), int(frames)] for name, (changed, frames) in content["folders"].items()}
        return known if content["version"] == VERSION else {}
    except (KeyError, TypeError, ValueError, AttributeError):  # none, or something else
        return {}


def _write_index(path, folders):
    try:
        write_json(path, {"version": VERSION, "folders": folders})
    except OSError as error:  # a data set may lie where nobody writes
        logger.info(f"The numbers of frames are not kept: {error}.")


def load_videos(name, root):
    """Dataset dicts of the videos in the folder ``root``, one sub-folder of image files each.

    Returns:
        list[dict]: ``file_name``, the video's folder; ``video``, the name of that folder; ``num_frames``.

    Raises:
        UsageError: where there is no video.
    """
    check_exists(name, root)
    counts = count_frames(root)
    dicts = [
        {"file_name": os.path.join(root, video), "video": video, "num_frames": frames}
        for video, frames in counts.items()
        if frames
    ]
    if not dicts:
        raise UsageError(f"Data set '{name}': no sub-folder of {os.path.abspath(root)} has frames of a video.")
    if len(dicts) < len(counts):
        logger.warning(f"Data set '{name}': {len(counts) - len(dicts)} of {len(counts)} folders have no frames.")
    return dicts


def drop_short(videos, n_frames, key="DATASETS.TRAIN"):
    """Those of ``videos`` (list of dicts of :func:`load_videos`) that have ``n_frames`` frames or more.

    Args:
        videos (list[dict]): of :func:`load_videos`.
        n_frames (int): 1 or more.
        key (str): of the config, that names them.

    Raises:
        UsageError: when none has, or one of them is an image.
    """
    images = [video["file_name"] for video in videos if "num_frames" not in video]
    if images:
        raise UsageError(f"{key} has {images[0]}, which is no video: address a folder of videos as video:DIR.")
    long = [video for video in videos if video["num_frames"] >= n_frames]
    if not long:
        most = max(video["num_frames"] for video in videos)
        raise UsageError(f"None of {len(videos)} videos has {n_frames} frames, the longest has {most}: lower N_FRAMES.")
    if len(long) < len(videos):
        logger.warning(f"Left out {len(videos) - len(long)} of {len(videos)} videos, shorter than {n_frames} frames.")
    return long


def drop_without_flow(videos, flow):
    """Those of ``videos`` that have their optical flow in files, without those that it could not be made for.

    Args:
        videos (list[dict]): of :func:`load_videos`, of two frames or more.
        flow (FlowFiles): the files, of which none is opened.

    Raises:
        UsageError: when flow is missing, or was made for none.
    """
    skipped, there = flow.skipped, flow.videos
    found = [video for video in videos if video["video"] not in skipped]
    missing = [video["video"] for video in found if video["video"] not in there]
    if missing:
        raise UsageError(
            f"{len(missing)} of {len(videos)} videos have no optical flow in {flow.root}, the first is '{missing[0]}': "
            "make it with python -m pixpro_d2.tools.extract_flow."
        )
    if len(found) < len(videos):
        reason = next(skipped[video["video"]] for video in videos if video["video"] in skipped)
        message = f"{len(videos) - len(found)} of {len(videos)} videos, of which no flow could be made, as {reason}"
        if not found:
            raise UsageError(f"Nothing is left without {message}: choose other videos.")
        logger.warning(f"Left out {message}.")
    return found


def register_video(name, root):
    """Register the folder ``root`` of folders of frames as data set ``name``."""
    check_exists(name, root)
    DatasetCatalog.register(name, lambda: load_videos(name, root))


def register_bdd100k_video(root):
    """Register ``bdd100k_video_train``, the frames of BDD100K's training videos, below the folder ``root``."""
    name, folder = "bdd100k_video_train", os.path.join(root, "bdd100k", "images", "train")
    DatasetCatalog.register(name, lambda: load_videos(name, folder))
