"""Read the optical flow of videos from files."""

import errno
import os
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import numpy as np

from ..utils.errors import UsageError
from . import native as native_files
from . import reference as reference_files
from .native import TOOL, describe_range


class FlowFiles:
    """Read the flow of videos from files in the format of :mod:`.native` or :mod:`.reference`.

    Files are opened for each sample (0.2 ms) and not kept open: there are thousands of videos, and each video is read
    once per epoch.
    """

    def __init__(self, root: str | Path) -> None:
        """
        Args:
            root: folder with a folder for each video, or with ``forward/<video>.pth`` and ``backward``.

        Raises:
            UsageError: if there is no such folder.
        """
        if not os.path.isdir(root):
            raise UsageError(f"There is no folder of optical flow {os.path.abspath(root)}: make it with {TOOL}.")
        self.root = str(root)
        self.is_reference = reference_files.found_in(self.root)

    @property
    def videos(self) -> set[str]:
        """Return the names of the videos that have files; no file is opened."""
        return self._layout.listed(self.root)

    @property
    def skipped(self) -> dict[str, str]:
        """Read the videos that were skipped, with the reasons, from disk."""
        return self._layout.read_skipped(self.root)

    def read(
        self,
        video: str,
        start: int,
        steps: int,
        num_frames: int | None = None,
        frame_size: Sequence[int] | None = None,
        frames: Sequence[str] | None = None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Read the flow of some steps of a video, in the order of use.

        Args:
            video: name of the video.
            start: first frame, from 0.
            steps: number of steps, m > 0.
            num_frames, frame_size, frames: see :meth:`check`; if ``num_frames`` is given, the video is checked, too.

        Returns:
            Two (m, 2, h, w) float16 arrays. The first starts with the flow from frame ``start`` to the next frame, and
            goes forward. The second starts with the flow from frame ``start + steps`` to the frame before, and goes
            backward.

        Raises:
            UsageError: if the files are missing, damaged, or have no such steps; and as :meth:`check`.
            OSError: if the first or the last of ``frames`` cannot be read.
        """
        path, forward, backward = self._open(video)
        if num_frames is not None:
            self._compare(path, forward, video, num_frames, frame_size, frames)
        if not 0 <= start < start + steps <= len(forward):
            raise UsageError(
                f"{path} has {len(forward)} steps, but steps {start} to {start + steps} are needed: it is the flow of "
                f"another video, make it again with {TOOL}."
            )
        part = slice(start, start + steps)
        return np.array(forward[part], np.float16), np.array(backward[part][::-1], np.float16)

    def check(
        self,
        video: str,
        num_frames: int,
        frame_size: Sequence[int] | None = None,
        frames: Sequence[str] | None = None,
    ) -> None:
        """Check that a video has its own flow.

        Args:
            video: name of the video.
            num_frames: number of frames of the video.
            frame_size: (H, W) of the frames, pixels; None if unknown.
            frames: paths of all frames, or of the first and the last frame: these are read. None if they are not
                compared.

        Raises:
            UsageError: if the files are missing or damaged, or if they belong to a video with another length, frame
                size, name or frames.
            OSError: if the first or the last of ``frames`` cannot be read.
        """
        path, forward, _ = self._open(video)
        self._compare(path, forward, video, num_frames, frame_size, frames)

    def check_range(self, video: str, pixel_range: Sequence[float]) -> None:
        """Check that the frames of a video have the same values as when its flow was estimated.

        Args:
            video: name of the video.
            pixel_range: INPUT.PIXEL_RANGE if the frames have more than 8 bits, otherwise ().

        Raises:
            UsageError: if the frames were read with another range; flow whose range is unknown passes.
        """
        used = self._layout.read_range(self.root, video)
        if used not in (None, tuple(pixel_range)):
            raise UsageError(
                f"{os.path.join(self.root, video)} has flow of frames that were read {describe_range(used)}, but "
                f"INPUT.PIXEL_RANGE is {list(pixel_range)}: set the same range, or make the flow again with {TOOL} "
                "--overwrite."
            )

    def _compare(
        self,
        path: str,
        forward: np.ndarray,
        video: str,
        num_frames: int,
        frame_size: Sequence[int] | None,
        frames: Sequence[str] | None = None,
    ) -> None:
        if len(forward) != num_frames - 1:
            raise UsageError(
                f"{path} has {len(forward)} steps, but the video '{video}' has {num_frames} frames, between which "
                f"there are {num_frames - 1}: make its flow again with {TOOL}."
            )
        problem = self._layout.mismatch(self.root, video, forward.shape, frame_size, frames)
        if problem:
            raise UsageError(f"{path} does not fit the video '{video}': {problem}; make its flow again with {TOOL}.")

    @property
    def _layout(self) -> ModuleType:
        return reference_files if self.is_reference else native_files  # no attribute, because modules cannot be pickled

    def _open(self, video: str) -> tuple[str, np.ndarray, np.ndarray]:
        """Open the flow of a video without reading its values.

        Returns:
            The path of the forward flow, and the forward and backward flow (n - 1, 2, h, w) in the order of time.
        """
        paths = self._layout.paths(self.root, video)
        arrays = []
        for path in paths:
            if not os.path.isfile(path):
                missing = FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)  # a mount may come back
                raise UsageError(f"There is no file of optical flow {path}: make it with {TOOL}.") from missing
            arrays.append(self._layout.load(path))
            if arrays[-1].ndim != 4 or arrays[-1].shape[1] != 2 or arrays[-1].dtype.kind != "f":
                raise UsageError(f"{path} is no optical flow: it has to be floats of the shape (steps, 2, h, w).")
        forward, backward = arrays
        if forward.shape != backward.shape:
            raise UsageError(
                f"{paths[0]} and {paths[1]} are not of one video: their shapes are {forward.shape} and "
                f"{backward.shape}; make them again with {TOOL}."
            )
        return paths[0], forward, backward[:: self._layout.BACKWARD_ORDER]
