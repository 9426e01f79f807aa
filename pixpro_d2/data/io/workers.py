"""The worker processes of a loader: how they begin, how they hand batches over, and what it means when they fail."""

import contextlib
import functools
import io
import pickle
import re
import time

import cv2
import torch
from detectron2.data.build import worker_init_reset_seed
from torch.utils.data import DataLoader, get_worker_info

from ...utils.errors import UsageError
from ...utils.signals import ignore_stop_signals, stop_signals_held
from .reader import restrict_pillow

SIGNAL_SECONDS = 5.0  # from when a worker's connections close to when PyTorch hears why, on a busy system
# What PyTorch or the system says -> what it means and what to do about it; the first that is found counts.
_REMEDIES = {
    r"Too many open files|ancdata": (
        "Too many files are open, of which each batch in shared memory is one: raise `ulimit -n`, or lower "
        "DATALOADER.NUM_WORKERS"
    ),
    r"</torch_|Bus error": (  # PyTorch's files in /dev/shm
        "The data loader's workers are out of shared memory: enlarge /dev/shm (with docker run --shm-size), or lower "
        "DATALOADER.NUM_WORKERS"
    ),
    r"DataLoader worker.*(killed by signal|exited unexpectedly)|Caught MemoryError|(Cannot|can't) allocate memory": (
        "A worker of the data loader ended, most likely for want of memory: lower DATALOADER.NUM_WORKERS, or give the "
        "job more memory; other reasons show with DATALOADER.NUM_WORKERS 0"
    ),
}


def build_loader(dataset, collate, num_workers, max_pixels, **batches):
    """The DataLoader of every data set, whose workers do not touch the random numbers that a model draws.

    Args:
        dataset (torch.utils.data.Dataset): with a length.
        collate (Callable[[list], object]): makes a batch of samples.
        num_workers (int): DATALOADER.NUM_WORKERS.
        max_pixels (int): DATALOADER.MAX_IMAGE_PIXELS; a worker that is not forked knows nothing of its parent's limit.
        **batches: what a DataLoader draws batches by: ``batch_sampler``, or ``batch_size`` and ``sampler``.
    """
    return _Loader(
        dataset,
        num_workers=num_workers,
        collate_fn=functools.partial(collate_shared, collate),
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=functools.partial(init_worker, max_pixels),
        generator=torch.Generator(),  # else the start of the workers moves the global one, which a model draws from
        **batches,
    )


class _Loader(DataLoader):
    """A DataLoader whose workers outlive stop signals from their first moment on."""

    def __iter__(self):
        with stop_signals_held():
            return super().__iter__()


def init_worker(max_pixels, worker_id):
    """The ``worker_init_fn`` of every DataLoader, once ``max_pixels`` is bound."""
    restrict_pillow(max_pixels)
    cv2.setNumThreads(0)  # the workers share the cores already; OpenCV's threads would not survive a fork either
    worker_init_reset_seed(worker_id)
    ignore_stop_signals()


def collate_shared(collate, samples):
    """``collate(samples)``, in a worker with all tensors in shared memory.

    PyTorch alone moves them there in a thread whose errors nobody hears of: short of shared memory, the training
    process would wait for the batch forever. Here they are raised like all others.
    """
    batch = collate(samples)
    if get_worker_info() is not None:
        _Sharer(io.BytesIO()).dump(batch)
    return batch


class _Sharer(pickle.Pickler):
    """Finds the tensors within any object, and moves them to shared memory; what it writes is of no use."""

    def persistent_id(self, value):
        if not isinstance(value, torch.Tensor):
            return None
        value.share_memory_()
        return "shared"


def explaining_workers():
    """Context that turns errors about the workers of a DataLoader into a UsageError with the remedy.

    PyTorch learns by a signal that a worker has ended, so that its error can come up anywhere in the main thread while
    a loader is in use, not only where a batch is taken. There, errors of the model and of anything else come up too:
    only those count that speak of a worker.
    """
    return _explaining(r"DataLoader worker")


@contextlib.contextmanager
def _explaining(about):
    """Turn errors that the pattern ``about`` and one of the remedies' fit into a UsageError."""
    try:
        yield
    except (RuntimeError, OSError, EOFError, MemoryError) as error:
        for told in map(str, _reasons(error)):
            for pattern, remedy in _REMEDIES.items():
                if re.search(about, told) and re.search(pattern, told):
                    raise UsageError(f"{remedy} ({_sentence(told, pattern)}).") from error
        raise


def _sentence(told, pattern):
    """The sentence of an error's last line that ``pattern`` fits, or its first; of a worker's error, that is the last
    line of its traceback."""
    sentences = told.strip().splitlines()[-1].split(". ")
    return next((text for text in sentences if re.search(pattern, text)), sentences[0]).rstrip(". ")


def _reasons(error):
    """What may tell why a worker failed: what PyTorch learnt by the signal, then ``error``."""
    if isinstance(error, (ConnectionError, EOFError)):  # a batch lies with a worker that is gone, the signal is to come
        try:
            time.sleep(SIGNAL_SECONDS)
        except RuntimeError as told:
            return told, error
    return error.__cause__, error


def explained(loader):
    """The batches of a DataLoader; an error where one is taken is about the workers, whatever it says. A generator."""
    with explaining_workers():  # the signal may come while another error is on its way up
        with _explaining(""):
            batches = iter(loader)
        end = object()
        while True:
            with _explaining(""):
                batch = next(batches, end)
            if batch is end:
                return
            yield batch
