"""The frames of one video file, some of them a second, as a folder of numbered JPEGs."""

import logging
import math
import os
import shutil
from pathlib import Path

import cv2

from ...utils.errors import UsageError
from ...utils.files import read_json, write_json

logger = logging.getLogger(__name__)

RECORD = "video.json"  # beside the frames: what extract_frames returned
FIELDS = {"frames", "size", "fps", "source", "source_bytes", "asked"}
MAX_FRAMES = 99_999  # that five digits number, so that the order of the names is that of time
WHOLE = 0.9  # share of its length that a video must decode to
COUNTED = (".mp4", ".mov", ".avi")  # formats that tell the number of their frames; that of others is estimated


class VideoError(Exception):
    """The reason why a video does not give usable frames."""


def read_frames(path, fps):
    """Decode those frames of a video that lie nearest to the ticks of a clock.

    A frame comes once at most: where the video has fewer than ``fps`` frames a second, all of them come. Time is that
    of the video's time stamps; where they stand still, a frame comes one frame of the video's rate after the last one.

    Args:
        path (str): of the video.
        fps (float): ticks a second, from the first frame on.

    Yields:
        tuple: time in seconds, and uint8 array (H, W, 3), BGR, upright by the video's rotation.

    Raises:
        VideoError: for a file that cannot be decoded, or that certainly breaks off; where only its duration says so,
            which may be that of the sound, a warning is logged.
    """
    # One thread a video: the cores have videos of their own.
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
            tick = math.floor((time - start + interval / 2) * fps + 1e-6)  # half a frame ahead: the nearest one
            if tick > last_tick:
                last_tick = tick
                decoded, image = capture.retrieve()
                if not decoded:
                    raise VideoError(f"the frame at {time:.2f} s cannot be decoded")
                yield time, image
        if start is None:
            raise VideoError("no frame can be decoded")
        count = capture.get(cv2.CAP_PROP_FRAME_COUNT)
        length, whole = time - start + interval, count * interval
        # Frames may be left out, and their rate may vary: only a file that lacks both frames and time is cut off.
        if length < WHOLE * whole and grabbed < WHOLE * count:
            problem = f"breaks off after {length:.1f} of {whole:.1f} s"
            if path.lower().endswith(COUNTED):
                raise VideoError(problem)
            logger.warning(f"{path} perhaps {problem}: its frames so far are taken.")
    finally:
        capture.release()


def shrink(image, short_side):
    """Scale an image (H, W, 3) down so that its shorter side has ``short_side`` pixels; never up, nor for None."""
    height, width = image.shape[:2]
    scale = short_side / min(height, width) if short_side else 1.0
    if scale >= 1:
        return image
    return cv2.resize(image, (round(width * scale), round(height * scale)), interpolation=cv2.INTER_AREA)


def write_frames(frames, folder, short_side=None, quality=95):
    """Write frames as ``folder``/00001.jpg, 00002.jpg, ...

    Args:
        frames (Iterable[tuple]): of :func:`read_frames`.
        folder (str): that exists.
        short_side (int or None): see :func:`shrink`.
        quality (int): of the JPEGs, 1 to 100.

    Returns:
        dict: ``frames``, their number; ``size`` [height, width] in pixels; ``fps``, frames a second on average.

    Raises:
        VideoError: for frames of several sizes, fewer than 2 of them, or more than MAX_FRAMES.
        OSError: where a file cannot be written.
    """
    times, sizes = [], set()
    for time, image in frames:
        image = shrink(image, short_side)
        times.append(time)
        sizes.add(image.shape[:2])
        if len(sizes) > 1:
            raise VideoError(f"the frame at {time:.2f} s has another size than those before")
        if len(times) > MAX_FRAMES:
            raise VideoError(f"more than {MAX_FRAMES} frames: cut the video, or take fewer frames a second")
        # Not cv2.imwrite, which says nothing about a full disk.
        encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        Path(folder, f"{len(times):05d}.jpg").write_bytes(encoded.tobytes())
    if len(times) < 2:
        raise VideoError("gives fewer than 2 frames")
    return {
        "frames": len(times),
        "size": [int(side) for side in sizes.pop()],
        "fps": round((len(times) - 1) / (times[-1] - times[0]), 3),
    }


def partial_folder(folder):
    """Where :func:`extract_frames` writes until ``folder`` is complete."""
    return os.path.join(os.path.dirname(folder), f".{os.path.basename(folder)}.tmp")


def read_record(folder):
    """What :func:`extract_frames` returned for ``folder``; None where it made none, or its record is damaged."""
    record = read_json(Path(folder, RECORD))
    return record if isinstance(record, dict) and record.keys() >= FIELDS else None


def extract_frames(source, folder, fps, short_side=None, quality=95):
    """Turn a video into a folder of frames, complete or not at all.

    Args:
        source (str): the video.
        folder (str): for its frames; there may be none, an empty one, or one with a damaged RECORD, to be replaced.
        fps, short_side, quality: as in :func:`read_frames` and :func:`write_frames`.

    Returns:
        dict: of :func:`write_frames`, with the path of the ``source``, its size ``source_bytes`` and what was ``asked``
        for: fps, short_side and quality. The file RECORD in the folder holds it, too.

    Raises:
        VideoError: for a video that cannot be read or does not give usable frames, named.
        UsageError: where frames cannot be written, for example on a full disk.
    """
    partial = partial_folder(folder)
    try:
        with open(source, "rb") as file:
            source_bytes = file.seek(0, os.SEEK_END)
    except OSError as error:
        raise VideoError(f"{source}: cannot be read ({error.strerror})") from error
    try:
        shutil.rmtree(partial, ignore_errors=True)  # of a process that was killed
        os.makedirs(partial)
        record = {
            **write_frames(read_frames(source, fps), partial, short_side, quality),
            "source": os.path.abspath(source),
            "source_bytes": source_bytes,
            "asked": {"fps": fps, "short_side": short_side, "quality": quality},
        }
        write_json(Path(partial, RECORD), record)
        if read_record(folder) is None and os.path.exists(os.path.join(folder, RECORD)):
            shutil.rmtree(folder)
        os.rename(partial, folder)
    except OSError as error:
        raise UsageError(f"{folder}: the frames of {source} cannot be written ({error.strerror}).") from error
    except (VideoError, cv2.error) as error:
        raise VideoError(f"{source}: {' '.join(str(error).split())}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return record
