"""Write the files of a rendered video: frames, exact flow, and labels of some frames."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from ....utils.errors import UsageError
from ..video_scene import Clip
from .cityscapes import write_cityscapes
from .sample import Sample

ARRAYS = ("forward", "backward", "visible_forward", "visible_backward")


def write_frames(folder: Path, clip: Clip) -> None:
    """Write the frames of a video to a new folder, as ``00001.jpg`` and so on."""
    folder.mkdir(parents=True)
    for number, frame in enumerate(clip.frames, start=1):
        Image.fromarray(frame).save(folder / f"{number:05d}.jpg", quality=95)


def write_arrays(folder: Path, clip: Clip) -> None:
    """Write the ``ARRAYS`` of a video to a new folder, as ``<name>.npy``."""
    folder.mkdir(parents=True)
    for name in ARRAYS:
        np.save(folder / f"{name}.npy", getattr(clip, name))


def check_flow_scale(scale: int, size: tuple[int, int]) -> None:
    """Raise a UsageError unless ``scale`` of the flow divides ``size``, the height and width of the frames."""
    if scale < 1 or any(side % scale for side in size):
        raise UsageError(f"--flow-scale is {scale}; it must divide the height {size[0]} and the width {size[1]}.")


def grid_flow(clip: Clip, scale: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the flow of a video at a fraction of its resolution, exact at the grid points.

    Args:
        clip: video of n frames (H, W).
        scale: divisor of H and W.

    Returns:
        Flow from frame i to i + 1, and from frame i + 1 to i. Both are float32 (n - 1, 2, H / scale, W / scale), in
        pixels of the grid.
    """
    shape = tuple(side // scale for side in clip.layers.shape[1:])
    pairs = range(len(clip.forward))
    forward = np.stack([clip.scene.flow(i, i + 1, shape)[0] for i in pairs])
    backward = np.stack([clip.scene.flow(i + 1, i, shape)[0] for i in pairs])
    return forward, backward


def write_labels(root: Path, split: str, clip: Clip, video: int, count: int) -> None:
    """Write some frames of a video with their labels, in Cityscapes' layout.

    Cityscapes' writer outlines an object from its centre. So the written frames are spread over the frames that contain
    the centres of all visible objects. A video may have fewer than ``count`` such frames, or none.

    Args:
        root: existing folder of the data set.
        split: name of the split.
        clip: the video.
        video: number of the video, from 0; frame numbers continue over all videos.
        count: number of frames to write.
    """
    samples = [_sample(clip, frame, video * len(clip.frames) + frame) for frame in range(len(clip.frames))]
    height, width = clip.layers.shape[1:]
    samples = [
        sample
        for sample in samples
        if all(0 < x < width and 0 < y < height for x, y in (obj.centre for obj in sample.scene.objects))
    ]
    middles = (np.arange(count) + 0.5) * len(samples) / max(count, 1)
    chosen = [samples[index] for index in np.unique(middles.astype(int))] if samples else []
    for _ in write_cityscapes(root, split, chosen):
        pass


def _sample(clip: Clip, frame: int, number: int) -> Sample:
    """Return a frame as a sample for the writers, with its visible objects."""
    shown = [layer for layer in np.unique(clip.layers[frame]).tolist() if layer > 0]
    scene = clip.scene.seen(frame)
    masks = clip.layers[frame] == np.array(shown, dtype=int)[:, None, None]
    return Sample(
        number, replace(scene, objects=tuple(scene.objects[layer - 1] for layer in shown)), clip.frames[frame], masks
    )
