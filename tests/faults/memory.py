"""The memory of a training process and its workers over time: samples, their slope, and a figure."""

import threading
import time

import numpy as np
from matplotlib.figure import Figure

from .commands import children

SETTLED = 0.5  # share of a run after which its memory no longer grows by what is allocated once


class MemorySampler(threading.Thread):
    """Samples the resident memory of a process and of its children once a second, until it ends (Linux).

    Attributes:
        samples (list[tuple]): (seconds since ``began``, MB of the process, MB of its children together).
    """

    def __init__(self, pid, began, interval=1.0):
        """
        Args:
            pid (int): of the process.
            began (float): time.monotonic() from which seconds count.
            interval (float): seconds.
        """
        super().__init__(daemon=True)
        self.pid, self.began, self.interval = pid, began, interval
        self.samples = []

    def run(self):
        while (own := resident(self.pid)) > 0:
            self.samples.append((time.monotonic() - self.began, own, sum(map(resident, _children(self.pid)))))
            time.sleep(self.interval)


def resident(pid):
    """Resident memory of a process in MB; 0 if it has ended."""
    try:
        with open(f"/proc/{pid}/status") as file:
            return next((int(line.split()[1]) / 1024 for line in file if line.startswith("VmRSS:")), 0.0)
    except (FileNotFoundError, ProcessLookupError):
        return 0.0


def _children(pid):
    try:
        return children(pid)
    except (FileNotFoundError, ProcessLookupError):
        return []


def slope(samples, seconds_per_iteration):
    """Growth of the process and of its children, in MB per 1000 iterations, by least squares once they have settled."""
    settled = samples[int(SETTLED * len(samples)) :]
    if len(settled) < 3:
        return [0.0, 0.0]
    times, *sizes = np.array(settled).T
    return [1000 * seconds_per_iteration * float(np.polyfit(times, size, 1)[0]) for size in sizes]


def draw(path, straight, disturbed, kills):
    """Write a figure of the memory of both runs over time.

    Args:
        path (Path): of a PNG file.
        straight (list[tuple]): samples of the run that nothing happened to.
        disturbed (list[list[tuple]]): samples of each process of the other run.
        kills (list[float]): when it was killed, seconds.
    """
    figure = Figure(figsize=(10, 6), layout="constrained")
    upper, lower = figure.subplots(2, 1)
    for axes, parts, title in ((upper, [straight], "uninterrupted"), (lower, disturbed, f"{len(kills)} kills")):
        for samples in filter(None, parts):
            times, own, workers = np.array(samples).T
            axes.plot(times / 60, own, color="tab:blue", label="training process")
            axes.plot(times / 60, workers, color="tab:orange", label="its data workers, together")
        axes.set(title=title, xlabel="minutes", ylabel="resident memory, MB", ylim=(0, None))
    for time_of_kill in kills:
        lower.axvline(time_of_kill / 60, color="tab:red", linewidth=0.6)
    upper.legend(loc="lower right")
    figure.savefig(path, dpi=120)
