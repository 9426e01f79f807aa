"""Optical flow of videos out of files."""

import errno
import os

import numpy as np

from ..utils.errors import UsageError
from . import native as native_files
from . import reference as reference_files
from .native import TOOL, write_flow

__all__ = ["FlowFiles", "write_flow"]


class FlowFiles:
    """Flow of videos from files: those of :mod:`.native_files`, or of :mod:`.reference_files`.

    Files are opened for each sample (a fifth of a millisecond) and not kept open: there are thousands of videos, of
    which each is read once an epoch.
    """

    def __init__(self, root):
        """
        Args:
            root (str): folder with a folder for each video, or with ``forward/<video>.pth`` and ``backward``.

        Raises:
            UsageError: if there is no such folder.
        """
        if not os.path.isdir(root):
            raise UsageError(f"There is no folder of optical flow {os.path.abspath(root)}: make it with {TOOL}.")
        self.root = str(root)
        self.is_reference = reference_files.found_in(root)

    @property
    def videos(self):
        """Names (set) of the videos that have files, which are not opened."""
        return self._layout.listed(self.root)

    @property
    def skipped(self):
        """Why the others that were tried have none, dict of name to reason; read from disk."""
        return self._layout.read_skipped(self.root)

    def read(self, video, start, steps, num_frames=None, frame_size=None):
        """Flow of some steps of a video, in the order of use.

        Args:
            video (str): name of the video.
            start (int): frame that they start from, from 0.
            steps (int): number of steps, m > 0.
            num_frames, frame_size: as of :meth:`check`, which is made too where the number is given.

        Returns:
            tuple[ndarray, ndarray]: (m, 2, h, w) float16 each: the flow from frame ``start`` to the next and so on,
            and that from frame ``start + steps`` to the one before and so on.

        Raises:
            UsageError: for files that are missing, damaged, or have no such steps; and as of :meth:`check`.
        """
        path, forward, backward = self._open(video)
        if num_frames is not None:
            self._compare(path, forward, video, num_frames, frame_size)
        if not 0 <= start < start + steps <= len(forward):
            raise UsageError(
                f"{path} has {len(forward)} steps, of which {start} to {start + steps} were asked for: it is the flow "
                f"of another video, make it anew with {TOOL}."
            )
        part = slice(start, start + steps)
        return np.array(forward[part], np.float16), np.array(backward[part][::-1], np.float16)

    def check(self, video, num_frames, frame_size=None, frames=None):
        """Check that a video has its own flow.

        Args:
            video (str): name of the video.
            num_frames (int): its number of frames.
            frame_size (tuple[int, int] or None): (H, W) of its frames, where known.
            frames (list[str] or None): paths of all of them, of which the first and the last are read.

        Raises:
            UsageError: for files that are missing, damaged, or of a video of another length, frame size or name, or
                of other frames.
        """
        path, forward, _ = self._open(video)
        self._compare(path, forward, video, num_frames, frame_size, frames)

    def _compare(self, path, forward, video, num_frames, frame_size, frames=None):
        if len(forward) != num_frames - 1:
            raise UsageError(
                f"{path} has {len(forward)} steps, but the video '{video}' has {num_frames} frames, between which "
                f"there are {num_frames - 1}: make its flow anew with {TOOL}."
            )
        problem = self._layout.mismatch(self.root, video, forward.shape, frame_size, frames)
        if problem:
            raise UsageError(f"{path} does not fit the video '{video}': {problem}; make its flow anew with {TOOL}.")

    @property
    def _layout(self):
        return reference_files if self.is_reference else native_files  # modules: no attribute that could be pickled

    def _open(self, video):
        """Path of the forward flow; forward and backward flow (n - 1, 2, h, w) in the order of time, not yet read."""
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
                f"{backward.shape}; make them anew with {TOOL}."
            )
        return paths[0], forward, backward[:: self._layout.BACKWARD_ORDER]
