"""``video:DIR``: one sub-folder of frames per video, in the order of their names; and BDD100K's videos."""

import logging
import os
import re
import time
from collections.abc import Iterable, Sequence
from typing import Any

from detectron2.data import DatasetCatalog

from ...flow_files import FlowFiles
from ...utils.errors import UsageError
from ...utils.files import read_json, write_json
from ...utils.folders import is_hidden, walk
from .image_index import MTIME_RESOLUTION_SECONDS
from .images import is_image
from .paths import check_exists

logger = logging.getLogger(__name__)

INDEX = ".pixpro_index.json"  # file in the folder of the videos with their numbers of frames
VERSION = 2  # version 1 had fewer image formats
AS_ZEROS = str.maketrans("123456789", "000000000")


def list_frames(folder: str) -> list[str]:
    """Return the paths of the image files in ``folder``, recognised by their extension, without hidden files.

    The paths are sorted by name, and numbers in a name by their value: frame9.jpg comes before frame10.jpg.
    """
    return [os.path.join(folder, name) for name in frame_names(folder)]


def frame_names(folder: str) -> list[str]:
    """Return the names of the files of :func:`list_frames` in their order."""
    names = _image_names(folder)
    # Most videos have numbers of one length: their order is the order of text, which takes a tenth of the time.
    forms = set("/".join(names).translate(AS_ZEROS).split("/"))
    return sorted(names, key=None if len(forms) == 1 else _natural)


def _image_names(folder: str) -> list[str]:
    return [name for name in os.listdir(folder) if is_image(name)]


def _natural(name: str) -> tuple[list[int | str], str]:
    # Text and numbers alternate, so text is compared with text and numbers with numbers. The name decides between 1
    # and 01.
    return [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)], name


def count_frames(root: str) -> dict[str, int]:
    """Count the frames of each folder in ``root``, sorted by name; skip hidden folders.

    The numbers are kept in the file INDEX of ``root``, if it is writable. They hold as long as a folder's time stamp.
    """
    index = os.path.join(root, INDEX)
    known, now = _read_index(index), time.time_ns()
    found: dict[str, tuple[int, int]] = {}
    for entry in sorted(os.scandir(root), key=lambda entry: entry.name):
        if entry.is_dir() and not is_hidden(entry.name):
            changed = entry.stat().st_mtime_ns
            before, frames = known.get(entry.name, (None, None))
            if frames is None or before != changed:
                frames = len(_image_names(entry.path))
            found[entry.name] = changed, frames
    settled = {name: list(item) for name, item in found.items() if now - item[0] > MTIME_RESOLUTION_SECONDS * 1e9}
    if settled != known:
        _write_index(index, settled)
    return {name: frames for name, (_, frames) in found.items()}


def _read_index(path: str) -> dict[str, list[int]]:
    content = read_json(path)
    try:
        known = {name: [int(changed), int(frames)] for name, (changed, frames) in content["folders"].items()}
        return known if content["version"] == VERSION else {}
    except (KeyError, TypeError, ValueError, AttributeError):  # the index is missing or malformed
        return {}


def _write_index(path: str, folders: dict[str, list[int]]) -> None:
    try:
        write_json(path, {"version": VERSION, "folders": folders})
    except OSError as error:  # the folder of a data set may be read-only
        logger.info(f"The numbers of frames are not kept: {error}.")


def load_videos(name: str, root: str) -> list[dict[str, Any]]:
    """Load the dataset dicts of the videos in the folder ``root``, one sub-folder of image files per video.

    Returns:
        Dicts with ``file_name``, the folder of the video; ``video``, the name of the folder; ``num_frames``.

    Raises:
        UsageError: if there is no video.
    """
    check_exists(name, root)
    counts = count_frames(root)
    dicts = [
        {"file_name": os.path.join(root, video), "video": video, "num_frames": frames}
        for video, frames in counts.items()
        if frames
    ]
    if not dicts:
        raise UsageError(
            f"Data set '{name}': no sub-folder of {os.path.abspath(root)} has frames of a video: {_advice(root)}."
        )
    if len(dicts) < len(counts):
        logger.warning(f"Data set '{name}': {len(counts) - len(dicts)} of {len(counts)} folders have no frames.")
    return dicts


def _advice(root: str) -> str:
    """Return advice on a folder without videos, by the place of the first images, up to four folders deep."""
    for folder, files in walk(root, lambda denied: None, lambda path: os.path.relpath(path, root).count(os.sep) < 4):
        if any(map(is_image, files)):
            if folder == root:
                return f"it has images itself, so name the folder above it, {os.path.dirname(os.path.abspath(root))}"
            return f"images lie deeper, in {folder}, so make a folder or a link directly below for each video"
    return "`pixpro-d2 prepare-video` writes such folders"


def drop_short(videos: Sequence[dict[str, Any]], n_frames: int, key: str = "DATASETS.TRAIN") -> list[dict[str, Any]]:
    """Return the videos that have ``n_frames`` frames or more.

    Args:
        videos: dataset dicts of :func:`load_videos`.
        n_frames: smallest number of frames, 1 or more.
        key: config key that names the data sets, for messages.

    Raises:
        UsageError: if no video has enough frames, or one of the dicts is an image.
    """
    images = [video["file_name"] for video in videos if "num_frames" not in video]
    if images:
        raise UsageError(f"{key} has {images[0]}, which is no video: address a folder of videos as video:DIR.")
    long = [video for video in videos if video["num_frames"] >= n_frames]
    if not long:
        most = max(video["num_frames"] for video in videos)
        raise UsageError(f"None of {len(videos)} videos has {n_frames} frames, the longest has {most}: lower N_FRAMES.")
    if len(long) < len(videos):
        logger.warning(f"Skipped {len(videos) - len(long)} of {len(videos)} videos, shorter than {n_frames} frames.")
    return long


def check_names(videos: Iterable[dict[str, Any]], flow_folder: str) -> None:
    """Check that no two folders of frames have one name, because flow is found by the name.

    Args:
        videos: dataset dicts of :func:`load_videos`, of one or several data sets.
        flow_folder: folder of the flow of all these videos.

    Raises:
        UsageError: if two different folders have one name; links to a folder count as the folder.
    """
    folders: dict[str, str] = {}
    for video in videos:
        folder, first = video["file_name"], folders.setdefault(video["video"], video["file_name"])
        if folder != first and os.path.realpath(folder) != os.path.realpath(first):
            raise UsageError(
                f"{first} and {folder} are two videos of one name, but {flow_folder} has one optical flow for each "
                "name: rename one of the two folders, and make its flow with python -m pixpro_d2.tools.extract_flow."
            )


def drop_without_flow(videos: Sequence[dict[str, Any]], flow: FlowFiles) -> list[dict[str, Any]]:
    """Return the videos that have files of optical flow, without the videos that flow could not be made for.

    Args:
        videos: dataset dicts of :func:`load_videos`, with two frames or more.
        flow: the files; no file is opened.

    Raises:
        UsageError: if flow of a video is missing, or could not be made for any video; and as :func:`check_names`.
    """
    check_names(videos, flow.root)
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
        logger.warning(f"Skipped {message}.")
    return found


def register_video(name: str, root: str) -> None:
    """Register the folder ``root`` of folders of frames as data set ``name``."""
    check_exists(name, root)
    DatasetCatalog.register(name, lambda: load_videos(name, root))


def register_bdd100k_video(root: str) -> None:
    """Register ``bdd100k_video_train``, the frames of BDD100K's training videos, below the folder ``root``."""
    name, folder = "bdd100k_video_train", os.path.join(root, "bdd100k", "images", "train")
    DatasetCatalog.register(name, lambda: load_videos(name, folder))
