"""Extract frames of a video file at a given rate, as a folder of numbered JPEGs."""

import itertools
import logging
import math
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ...utils.errors import UsageError
from ...utils.files import read_json, write_json

logger = logging.getLogger(__name__)

RECORD = "video.json"  # file beside the frames with the record of extract_frames
RECORD_FIELDS = {"frames", "size", "fps", "source", "source_bytes", "asked"}
MIN_DECODED_SHARE = 0.9  # least decodable share of a video's length
BOXED_SUFFIXES = (".mp4", ".mov", ".m4v")  # formats of boxes with their sizes, and with the number of frames


class VideoError(Exception):
    """State the reason why a video gives no usable frames."""


def read_frames(path: str, fps: float) -> Iterator[tuple[float, np.ndarray]]:
    """Decode the frames of a video that are nearest to the ticks of a clock.

    Each frame comes at most once. A video with less than ``fps`` frames a second gives all its frames. Time is read
    from the video's time stamps. If time stamps stand still, the interval of the video's frame rate is added.

    Args:
        path: path of the video.
        fps: ticks a second, from the first frame on.

    Yields:
        Time in seconds, and uint8 array (H, W, 3), BGR, upright by the video's rotation.

    Raises:
        VideoError: if the file cannot be decoded, or certainly ends early. If only the duration or the number of frames
            indicates an early end, a warning is logged: the duration may belong to the sound, and a file that was cut
            without encoding it again stores frames that are not shown.
    """
    # Each video uses one thread, because other cores process other videos.
    capture = cv2.VideoCapture(os.path.abspath(path), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1])
    if not capture.isOpened():
        raise VideoError("not a video that can be decoded")
    try:
        capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 1)
        rate = capture.get(cv2.CAP_PROP_FPS)
        interval = 1 / rate if rate > 0 else 0.0
        start = time = None
        last_tick, grabbed = -1, 0
        while capture.grab():
            grabbed += 1
            stamp = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
            time = stamp if time is None or stamp > time else time + interval
            start = time if start is None else start
            tick = math.floor((time - start + interval / 2) * fps + 1e-6)  # half a frame ahead: the nearest frame
            if tick > last_tick:
                last_tick = tick
                decoded, image = capture.retrieve()
                if not decoded:
                    raise VideoError(f"the frame at {time:.2f} s cannot be decoded")
                yield time, image
        if start is None or time is None:
            raise VideoError("no frame can be decoded")
        count = capture.get(cv2.CAP_PROP_FRAME_COUNT)
        length, whole = time - start + interval, count * interval
        # Frames may be missing, and their rate may vary: only a file that lacks both frames and time is cut off.
        if length < MIN_DECODED_SHARE * whole and grabbed < MIN_DECODED_SHARE * count:
            problem = f"breaks off after {length:.1f} of {whole:.1f} s"
            name = path.lower()
            if name.endswith(".avi") or (name.endswith(BOXED_SUFFIXES) and is_cut_off(path)):
                raise VideoError(problem)
            logger.warning(f"{path} perhaps {problem}: its frames so far are taken.")
    finally:
        capture.release()


def is_cut_off(path: str) -> bool:
    """Return whether a box of an MP4 or MOV file ends behind the end of the file (ISO/IEC 14496-12, section 4.2)."""
    with open(path, "rb") as file:
        end, place = file.seek(0, os.SEEK_END), 0
        while place + 8 <= end:
            file.seek(place)
            size = int.from_bytes(file.read(4), "big")
            file.read(4)  # the type
            if size == 1:  # the size follows in 8 bytes
                size = int.from_bytes(file.read(8), "big")
            if size == 0:  # the box reaches to the end of the file
                return False
            if size < 8:  # no box
                return True
            place += size
    return place > end


def shrink(image: np.ndarray, short_side: int | None) -> np.ndarray:
    """Scale an image (H, W, 3) down to a shorter side of ``short_side`` pixels; never scale up, nor for None."""
    height, width = image.shape[:2]
    scale = short_side / min(height, width) if short_side else 1.0
    if scale >= 1:
        return image
    return cv2.resize(image, (round(width * scale), round(height * scale)), interpolation=cv2.INTER_AREA)


def write_frames(
    frames: Iterable[tuple[float, np.ndarray]], folder: str, short_side: int | None = None, quality: int = 95
) -> dict[str, Any]:
    """Write frames as ``folder``/00001.jpg, 00002.jpg, ...

    Args:
        frames: result of :func:`read_frames`.
        folder: existing folder.
        short_side: see :func:`shrink`.
        quality: JPEG quality, 1 to 100.

    Returns:
        ``frames``: number of frames; ``size``: [height, width] in pixels; ``fps``: average frames a second;
        ``longest_step``: longest time from a frame to the next, seconds.

    Raises:
        VideoError: if frames differ in size, or are fewer than 2.
        OSError: if a file cannot be written.
    """
    times, sizes = [], set()
    for time, image in frames:
        image = shrink(image, short_side)
        times.append(time)
        sizes.add(image.shape[:2])
        if len(sizes) > 1:
            raise VideoError(f"the frame at {time:.2f} s has another size than those before")
        # cv2.imwrite would not report a full disk.
        encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        Path(folder, f"{len(times):05d}.jpg").write_bytes(encoded.tobytes())
    if len(times) < 2:
        raise VideoError("gives fewer than 2 frames")
    return {
        "frames": len(times),
        "size": [int(side) for side in sizes.pop()],
        "fps": round((len(times) - 1) / (times[-1] - times[0]), 3),
        "longest_step": round(max(after - before for before, after in itertools.pairwise(times)), 3),
    }


def partial_folder(folder: str | Path) -> str:
    """Return the folder that :func:`extract_frames` writes to until ``folder`` is complete."""
    return os.path.join(os.path.dirname(folder), f".{os.path.basename(folder)}.tmp")


def read_record(folder: str | Path) -> dict[str, Any] | None:
    """Return the record of :func:`extract_frames` in ``folder``; None if the record is missing or damaged."""
    record = read_json(Path(folder, RECORD))
    return record if isinstance(record, dict) and record.keys() >= RECORD_FIELDS else None


def extract_frames(
    source: str, folder: str, fps: float, short_side: int | None = None, quality: int = 95
) -> dict[str, Any]:
    """Turn a video into a folder of frames, complete or not at all.

    Args:
        source: path of the video.
        folder: folder for the frames; it may be missing or empty, or have a RECORD, and is then replaced.
        fps: see :func:`read_frames`.
        short_side: see :func:`shrink`.
        quality: see :func:`write_frames`.

    Returns:
        Result of :func:`write_frames`, with the path of the ``source``, its size ``source_bytes``, and the arguments
        ``asked``: fps, short_side and quality. The file RECORD in the folder holds the same record.

    Raises:
        VideoError: if the video cannot be read or gives no usable frames; the message names the video.
        UsageError: if frames cannot be written, for example on a full disk.
    """
    partial = partial_folder(folder)
    try:
        with open(source, "rb") as file:
            source_bytes = file.seek(0, os.SEEK_END)
    except OSError as error:
        raise VideoError(f"{source}: cannot be read ({error.strerror})") from error
    try:
        shutil.rmtree(partial, ignore_errors=True)  # left behind by a killed process
        os.makedirs(partial)
        record = {
            **write_frames(read_frames(source, fps), partial, short_side, quality),
            "source": os.path.abspath(source),
            "source_bytes": source_bytes,
            "asked": {"fps": fps, "short_side": short_side, "quality": quality},
        }
        write_json(Path(partial, RECORD), record)
        if os.path.exists(os.path.join(folder, RECORD)):
            shutil.rmtree(folder)
        os.rename(partial, folder)
    except OSError as error:
        raise UsageError(f"{folder}: the frames of {source} cannot be written ({error.strerror}).") from error
    except (VideoError, cv2.error) as error:
        raise VideoError(f"{source}: {' '.join(str(error).split())}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return record
