"""Retry reading while a disk or a network mount is unavailable."""

import errno
import logging
import os
import time
from collections.abc import Callable
from typing import TypeVar

logger = logging.getLogger(__name__)

T = TypeVar("T")

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 8.0  # seconds
# Errors of the files themselves, which another attempt does not change.
_FINAL_ERRNOS = {errno.EISDIR, errno.ENOTDIR, errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL}


def retry(read: Callable[[], T], seconds: float) -> T:
    """Call ``read`` until it succeeds, with pauses that grow from FIRST_PAUSE to LONGEST_PAUSE.

    Args:
        read: function to call. Its last exception is raised when the time is over. An exception that cannot pass
            (:func:`may_pass`) is raised at once.
        seconds: time after which no further attempt starts; 0 for a single attempt.

    Returns:
        The result of ``read``.
    """
    end, pause = time.monotonic() + seconds, FIRST_PAUSE
    while True:
        try:
            return read()
        except Exception as error:
            left = end - time.monotonic()
            if left <= 0 or not may_pass(error):
                raise
            pause = min(pause, left)
            logger.warning(f"{error}: trying again in {pause:.1f} s, for at most {left:.0f} s.")
        time.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)


class Patience:
    """Retry reading the files of a sequence, and wait for a lost mount only once.

    If a disk or mount has failed for the whole time, further files are read once, until a file is readable again.
    """

    def __init__(self, seconds: float) -> None:
        """
        Args:
            seconds: time for each file, as for :func:`retry`.
        """
        self.seconds = self._left = seconds

    def read(self, read: Callable[[], T]) -> T:
        """Call ``read`` as :func:`retry` does."""
        try:
            result = retry(read, self._left)
        except Exception as error:
            if may_pass(error):
                self._left = 0
            raise
        self._left = self.seconds
        return result


def may_pass(error: BaseException | None) -> bool:
    """Return whether an exception, or its cause, is a failure of the system that may pass.

    A file that is missing from its folder, forbidden or damaged stays so. If the folder is missing or empty too, a
    mount may be away; the file is back when the mount is back.
    """
    while error is not None:
        if isinstance(error, OSError) and error.errno is not None:  # Pillow's errors for damaged files have no errno
            if error.errno == errno.ENOENT:
                return error.filename is not None and _folder_is_gone(error.filename)
            return error.errno not in _FINAL_ERRNOS
        error = error.__cause__
    return False


def _folder_is_gone(path: str) -> bool:
    try:
        with os.scandir(os.path.dirname(os.path.abspath(path))) as entries:
            return next(entries, None) is None
    except OSError:
        return True
