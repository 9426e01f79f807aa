"""A program that loads data by the start method of its argument, and is told to stop meanwhile, with its whole group.

It prints the Pillow limit of each sample's worker, then the numbers of its workers; after "wait" it never ends.
"""

import multiprocessing
import os
import signal
import sys
import time

import torch
from PIL import Image
from torch.utils.data import Dataset

from pixpro_d2.data.io.workers import build_loader, with_worker_errors
from pixpro_d2.utils.signals import StopSignals


class Limits(Dataset):
    """Pixels that Pillow allows where a sample is loaded; the first samples tell the group to stop, as a scheduler."""

    def __len__(self):
        return 12

    def __getitem__(self, index):
        if index < 2:
            os.killpg(0, signal.SIGTERM)
            os.killpg(0, signal.SIGUSR1)
        return torch.tensor(2 * Image.MAX_IMAGE_PIXELS)


def main(method, *words):
    """Load all samples with two workers."""
    multiprocessing.set_start_method(method, force=True)
    multiprocessing.set_forkserver_preload(["pixpro_d2.data.io.workers"])  # else each worker imports PyTorch again
    with StopSignals():
        batches = with_worker_errors(build_loader(Limits(), torch.stack, 2, 1234, batch_size=1))
        limits = [int(next(batches)) for _ in range(11)]
        workers = [process.pid for process in multiprocessing.active_children()]
        print(limits, workers, sep="\n", flush=True)
        if words:
            time.sleep(1000)


if __name__ == "__main__":
    main(*sys.argv[1:])
