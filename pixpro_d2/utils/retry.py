"""Reading again what could not be read because a disk or a network mount was away for a while."""

import errno
import logging
import os
import time

logger = logging.getLogger(__name__)

FIRST_PAUSE, LONGEST_PAUSE = 0.5, 8.0  # seconds
# Reasons that lie in the files themselves and do not pass.
_LASTING = {errno.EISDIR, errno.ENOTDIR, errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.ELOOP, errno.EINVAL}


def patiently(read, seconds):
    """Call ``read`` until it succeeds, at intervals that grow from FIRST_PAUSE to LONGEST_PAUSE.

    Args:
        read (Callable[[], T]): raises the same as if called once, for a reason that lasts (:func:`may_pass`) at once.
        seconds (float): after which no other attempt begins; 0 for one attempt.

    Returns:
        T: of ``read``.
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
            logger.warning(f"{error}: trying again in {pause:.1f} s, for {left:.0f} s at the most.")
        time.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)


def may_pass(error):
    """Whether an exception, or what caused it, is a failure of the system that may be over in a while.

    A file that is missing from its folder, forbidden or damaged stays so. One whose folder is gone too, or has become
    empty, is back when the mount is that held it.
    """
    while error is not None:
        if isinstance(error, OSError) and error.errno is not None:  # Pillow's, of damaged files, have no number
            if error.errno == errno.ENOENT:
                return error.filename is not None and _folder_is_gone(error.filename)
            return error.errno not in _LASTING
        error = error.__cause__
    return False


def _folder_is_gone(path):
    try:
        with os.scandir(os.path.dirname(os.path.abspath(path))) as entries:
            return next(entries, None) is None
    except OSError:
        return True
