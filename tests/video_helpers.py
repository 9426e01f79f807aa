"""Videos whose frames tell their number by their grey level."""

import cv2
import numpy as np

CODECS = {".mp4": "mp4v", ".mov": "mp4v", ".mkv": "mp4v", ".avi": "MJPG"}
STEP = 10  # grey levels from a frame to the next


def grey_frames(count, height=48, width=64):
    """``count`` (up to 26) arrays (height, width, 3) of uint8, the i-th of grey level STEP * i."""
    return [np.full((height, width, 3), STEP * i, np.uint8) for i in range(count)]


def write_video(path, frames, fps):
    """Write BGR frames as a video in the format that the extension of ``path`` names."""
    path.parent.mkdir(parents=True, exist_ok=True)
    codec, (height, width) = cv2.VideoWriter_fourcc(*CODECS[path.suffix]), frames[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, codec, fps, (width, height))
    assert writer.isOpened()
    for frame in frames:
        writer.write(frame)
    writer.release()


def number_of(image):
    """Number of the frame that an image, or a part of it, shows; compression moves a grey level by less than half."""
    return round(float(np.mean(image)) / STEP)
