"""Map the dict of a video to views of two of its frames, with flow or frames to find matching pixels."""

import functools
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from detectron2.config import configurable

from ...flow_files import FlowFiles
from ...utils.errors import UnreadableImage, UsageError
from ..datasets.video import frame_names
from ..io.reader import EncodedImage
from .mapper import TwoViewMapper
from .photometric import to_planes


class VideoMapper(TwoViewMapper):
    """Cut a view out of the first and of the last frame of a random run of consecutive frames."""

    @configurable
    def __init__(
        self,
        *,
        num_frames: int,
        flow: FlowFiles | None = None,
        give_frames: bool = False,
        swap_p: float = 0.0,
        **views: Any,
    ) -> None:
        """
        Args:
            num_frames: length of the run; 1 takes both views from one frame.
            flow: files of the optical flow from frame to frame.
            give_frames: decode all frames of the run and add them to the sample, to estimate flow from them.
            swap_p: probability that the first view comes from the later frame.
            **views: options of :class:`TwoViewMapper`.
        """
        super().__init__(**views)
        self.num_frames = num_frames
        self.flow = flow
        self.give_frames = give_frames
        self.swap_p = swap_p
        self._compared: set[str] = set()  # folders whose frames have been compared with their flow in this process

    def __call__(self, dataset_dict: dict[str, Any], rng: np.random.Generator | None = None) -> dict[str, Any]:
        """Make a sample of two views of a video.

        Args:
            dataset_dict: dict of :func:`pixpro_d2.data.datasets.video.load_videos`; the video has enough frames.
            rng: source of all randomness; a new generator by default.

        Returns:
            The entries of a sample of :class:`TwoViewMapper`; ``file_name`` is the first view's frame. If the run has
            several frames, also

            * with ``flow``: flow_there and flow_back, (num_frames - 1, 2, h, w) float16 each, in pixels of their own
              grid. The steps lead from the first view's frame to the second's and back, in order of use;
            * with ``give_frames``: frames (num_frames, 3, H, W) uint8, RGB, from the first view's to the second's.

        Raises:
            UnreadableImage: if a frame is not decodable, the frames differ in size, or the folder has changed.
            UsageError: if flow is missing or does not belong to the video. The first frame, the last frame and the
                pixel range are compared with the flow when a process reads the flow of the folder for the first time.
        """
        rng = rng or np.random.default_rng()
        start = int(rng.integers(dataset_dict["num_frames"] - self.num_frames + 1))
        steps = self.num_frames - 1
        swap = steps > 0 and rng.random() < self.swap_p
        names, folder = _frame_names(dataset_dict), dataset_dict["file_name"]
        paths = [os.path.join(folder, name) for name in names[start : start + self.num_frames]]
        if swap:
            paths.reverse()
        read = paths if self.give_frames else paths[:: max(1, steps)]
        images = [EncodedImage(path, self.pixel_range) for path in read]
        sizes = sorted({image.size for image in images})
        if len(sizes) > 1:
            listed = ", ".join(f"{width} x {height}" for width, height in sizes)
            raise UnreadableImage(f"{folder}: frames of several sizes ({listed} pixels)")
        sample: dict[str, Any] = {"file_name": paths[0]}
        if steps and self.give_frames:  # before the views, which may use smaller images
            sample["frames"] = np.stack([to_planes(image.decode()[0]) for image in images])
        sample.update(self.cut_views((images[0], images[-1]), rng))
        if steps and self.flow is not None:
            used_range = self.pixel_range if images[0].is_deep else ()
            flows = self._read_flow(self.flow, dataset_dict, names, start, sample["image_size"], used_range)
            sample["flow_there"], sample["flow_back"] = reversed(flows) if swap else flows
        return sample

    def _read_flow(
        self,
        flow: FlowFiles,
        dataset_dict: dict[str, Any],
        names: Sequence[str],
        start: int,
        frame_size: tuple[int, int],
        used_range: tuple[float, ...],
    ) -> tuple[np.ndarray, np.ndarray]:
        """Read the flow of the run from frame ``start``, and check that it is the flow of the frames ``names``."""
        folder = dataset_dict["file_name"]
        steps = self.num_frames - 1
        ends = [os.path.join(folder, names[i]) for i in (0, -1)] if folder not in self._compared else None
        try:
            own = len(names), frame_size, ends
            flows = flow.read(dataset_dict["video"], start, steps, *own)
            if ends:
                flow.check_range(dataset_dict["video"], used_range)
        except OSError as error:  # of the first or the last frame
            raise UnreadableImage(f"{folder}: {error.strerror}") from error
        except UsageError:
            for path in ends or ():
                EncodedImage(path, self.pixel_range).decode()  # a video with a broken frame is skipped, not an error
            raise
        self._compared.add(folder)
        return flows


def _frame_names(dataset_dict: dict[str, Any]) -> Sequence[str]:
    folder, expected = dataset_dict["file_name"], dataset_dict["num_frames"]
    try:
        names = _listed(folder, os.stat(folder).st_mtime_ns)
    except OSError as error:
        raise UnreadableImage(f"{folder}: {error.strerror}") from error
    if len(names) != expected:
        raise UnreadableImage(f"{folder}: {len(names)} frames, but {expected} when the data set was loaded")
    return names


@functools.lru_cache(maxsize=16)  # an hour at 10 frames a second takes about 2.5 MB
def _listed(folder: str, changed: int) -> tuple[str, ...]:
    """List the frames of a folder, whose time stamp is ``changed``, once for many samples."""
    return tuple(frame_names(folder))
