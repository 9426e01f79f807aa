"""The worker processes of a loader: their start, the transfer of batches, and errors with a remedy."""

import contextlib
import functools
import io
import logging
import os
import pickle
import re
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Any

import cv2
import torch
from detectron2.data.build import worker_init_reset_seed
from detectron2.utils import comm
from torch.utils.data import DataLoader, Dataset, get_worker_info

from ...utils.errors import UsageError
from ...utils.machine import usable_cores
from ...utils.signals import ignore_stop_signals, stop_signals_held
from .reader import restrict_pillow

logger = logging.getLogger(__name__)

# On a busy system, time from the closing of a worker's connections to the signal with the reason.
SIGNAL_SECONDS = 5.0
# Longest name of a temporary folder. A worker hands over each batch by a socket TMPDIR/pymp-xxxxxxxx/listener-xxxxxxxx,
# and the system limits the names of sockets to 107 characters.
MAX_TEMPORARY = 107 - len("/pymp-xxxxxxxx/listener-xxxxxxxx")
# Pattern of a message of PyTorch or the system -> its meaning and the remedy; the first match counts.
_REMEDIES = {
    r"Too many open files|ancdata": (
        "Too many files are open, of which each batch in shared memory is one: raise `ulimit -n`, or lower "
        "DATALOADER.NUM_WORKERS"
    ),
    r"</torch_|Bus error": (  # PyTorch's files in /dev/shm
        "The data loader's workers are out of shared memory: enlarge /dev/shm (with docker run --shm-size), or lower "
        "DATALOADER.NUM_WORKERS"
    ),
    r"exited unexpectedly with exit code": (
        "A worker of the data loader failed, and its error is further up: in a script, start the run below "
        '`if __name__ == "__main__":`; other errors show with DATALOADER.NUM_WORKERS 0, too'
    ),
    r"DataLoader worker.*(killed by signal|exited unexpectedly)|Caught MemoryError|(Cannot|can't) allocate memory": (
        "A worker of the data loader ended, most likely because memory is short: lower DATALOADER.NUM_WORKERS, or "
        "give the job more memory; other reasons show with DATALOADER.NUM_WORKERS 0"
    ),
}


def build_loader(
    dataset: Dataset,
    collate: Callable[[list], Any],
    num_workers: int,
    max_pixels: int,
    device: str = "cpu",
    **batches: Any,
) -> DataLoader:
    """Build the DataLoader of any data set; its workers leave the model's random numbers unchanged.

    Args:
        dataset: data set with a length.
        collate: makes a batch of a list of samples.
        num_workers: DATALOADER.NUM_WORKERS.
        max_pixels: DATALOADER.MAX_IMAGE_PIXELS; a worker that is not forked does not inherit the limit of its parent.
        device: device that the batches go to; those for a GPU lie in pinned memory.
        **batches: the DataLoader's options for batches: ``batch_sampler``, or ``batch_size`` and ``sampler``.

    Raises:
        UsageError: if the folder of temporary files has too long a name for workers.
    """
    if num_workers:
        _check_temporary_folder()
    return _Loader(
        dataset,
        num_workers=num_workers,
        collate_fn=functools.partial(collate_shared, collate),
        pin_memory=device.startswith("cuda"),
        worker_init_fn=functools.partial(init_worker, max_pixels),
        generator=torch.Generator(),  # otherwise the start of the workers advances the model's global generator
        **batches,
    )


def _check_temporary_folder() -> None:
    """Check the length of the temporary folder: a worker that cannot hand over a batch lets the run wait forever."""
    folder = tempfile.gettempdir()
    length = len(os.fsencode(folder))
    if length > MAX_TEMPORARY:
        raise UsageError(
            f"The folder of temporary files has a name of {length} characters, but data workers need at most "
            f"{MAX_TEMPORARY}: set the environment variable TMPDIR to a shorter folder, such as /tmp, in place of "
            f"{folder}."
        )


class _Loader(DataLoader):
    """Protect workers from stop signals from their first moment on."""

    def __iter__(self) -> Any:
        with stop_signals_held():
            return super().__iter__()


def warn_of_many_workers(num_workers: int) -> None:
    """Warn, once on each machine, if its processes have more than twice as many workers as they have cores.

    Args:
        num_workers: DATALOADER.NUM_WORKERS, the workers of each process.
    """
    workers, cores = comm.get_local_size() * num_workers, usable_cores()
    if comm.get_local_rank() == 0 and workers > 2 * cores:
        logger.warning(
            f"The data loaders of this machine have {workers} workers, but the number of processor cores for this job "
            f"is {cores}: lower DATALOADER.NUM_WORKERS, which is {num_workers} for each process, or give the job more."
        )


def init_worker(max_pixels: int, worker_id: int) -> None:
    """Initialise a worker; the ``worker_init_fn`` of every DataLoader, once ``max_pixels`` is bound."""
    restrict_pillow(max_pixels)
    cv2.setNumThreads(0)  # the workers already share the cores, and OpenCV's threads would not survive a fork
    worker_init_reset_seed(worker_id)
    ignore_stop_signals()


def collate_shared(collate: Callable[[list], Any], samples: list) -> Any:
    """Return ``collate(samples)``; in a worker, move all tensors to shared memory.

    PyTorch alone moves the tensors in a thread whose errors are lost. If shared memory is short, the training
    process would wait for the batch forever. Here these errors are raised like all others.
    """
    batch = collate(samples)
    if get_worker_info() is not None:
        _Sharer(io.BytesIO()).dump(batch)
    return batch


class _Sharer(pickle.Pickler):
    """Move the tensors within any object to shared memory; the written pickle is not used."""

    def persistent_id(self, value: Any) -> str | None:
        if not isinstance(value, torch.Tensor):
            return None
        value.share_memory_()
        return "shared"


def explaining_workers() -> AbstractContextManager[None]:
    """Turn errors about the workers of a DataLoader inside the context into a UsageError with the remedy.

    A signal informs PyTorch of the end of a worker. While a loader is in use, its error can therefore arise anywhere in
    the main thread, not only where a batch is read. Errors of the model and of other code arise there, too: only errors
    that mention a worker are changed.
    """
    return _explaining(r"DataLoader worker")


@contextlib.contextmanager
def _explaining(about: str) -> Iterator[None]:
    """Turn errors that match the pattern ``about`` and the pattern of a remedy into a UsageError."""
    try:
        yield
    except (RuntimeError, OSError, EOFError, MemoryError) as error:
        for message in map(str, _reasons(error)):
            for pattern, remedy in _REMEDIES.items():
                if re.search(about, message) and re.search(pattern, message):
                    raise UsageError(f"{remedy} ({_sentence(message, pattern)}).") from error
        raise


def _sentence(message: str, pattern: str) -> str:
    """Return the sentence in the last line of an error that matches ``pattern``, or the first sentence of this line.

    The last line of a worker's error is the last line of its traceback.
    """
    sentences = message.strip().splitlines()[-1].split(". ")
    return next((text for text in sentences if re.search(pattern, text)), sentences[0]).rstrip(". ")


def _reasons(error: BaseException) -> tuple[BaseException | None, BaseException]:
    """Return the errors that may have the reason why a worker failed: PyTorch's error on the signal, then ``error``."""
    if isinstance(error, (ConnectionError, EOFError)):  # the worker of a batch is gone, and its signal will arrive
        try:
            time.sleep(SIGNAL_SECONDS)
        except RuntimeError as signalled:
            return signalled, error
    return error.__cause__, error


def with_worker_errors(loader: Iterable) -> Iterator[Any]:
    """Yield the batches of a DataLoader; explain any error that arises where a batch is read as a worker's error."""
    with explaining_workers():  # the signal may arrive while another error propagates
        with _explaining(""):
            batches = iter(loader)
        end = object()
        while True:
            with _explaining(""):
                batch = next(batches, end)
            if batch is end:
                return
            yield batch
