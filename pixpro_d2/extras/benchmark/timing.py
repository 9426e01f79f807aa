"""Measuring how long steps and their parts take, by the clock of the CPU or of the GPU.

What is measured is any object with

* ``device`` (torch.device);
* ``step()``, one iteration;
* ``prepare()``, what a step needs but is not measured;
* ``parts``, dict of a part's name to the (owner, method name) whose calls it consists of.
"""

import time
from collections import defaultdict
from contextlib import ExitStack, contextmanager

import numpy as np
import torch


def time_steps(steps, count):
    """Seconds of each of ``count`` iterations, list[float].

    On a GPU the CPU runs ahead, as in training: it is waited for only after the last iteration.
    """
    marks = []
    for _ in range(count):
        steps.prepare()
        before = _mark(steps.device)
        steps.step()
        marks.append((before, _mark(steps.device)))
    synchronize(steps.device)
    return [_seconds(before, after) for before, after in marks]


def time_parts(steps, count):
    """Median seconds of each part of an iteration over ``count`` of them, dict[str, float].

    A part called by another counts for itself only; what is in no part is "rest". On a GPU every part is waited for,
    so that they are longer together than an iteration is.
    """
    runs = []
    for _ in range(count):
        steps.prepare()
        clock = PartClock(steps.device)
        parts = {**steps.parts, "rest": (steps, "step")}
        with ExitStack() as stack:
            for part, (owner, name) in parts.items():
                stack.enter_context(replaced(owner, name, clock.timed(part, getattr(owner, name))))
            steps.step()
        runs.append(clock.seconds)
    return {part: float(np.median([run[part] for run in runs])) for part in parts}


def synchronize(device):
    """Wait for the device; nothing to do for the CPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def spread(values):
    """Smallest, quartiles and largest of some numbers, dict[str, float]."""
    names = ("min", "lower_quartile", "median", "upper_quartile", "max")
    return dict(zip(names, np.quantile(values, (0, 0.25, 0.5, 0.75, 1)).tolist()))


class PartClock:
    """Seconds by part, each without those of the parts that it calls."""

    def __init__(self, device):
        self.device = device
        self.seconds = defaultdict(float)
        self._inner = [0.0]  # of the calls in progress, outermost first: seconds of the parts called by each

    def timed(self, part, function):
        """``function``, whose time is added to ``part``."""

        def wrapper(*args, **kwargs):
            synchronize(self.device)
            start = time.perf_counter()
            self._inner.append(0.0)
            try:
                return function(*args, **kwargs)
            finally:
                synchronize(self.device)
                passed = time.perf_counter() - start
                self.seconds[part] += passed - self._inner.pop()
                self._inner[-1] += passed

        return wrapper


@contextmanager
def replaced(owner, name, value):
    """Set an attribute of an object or a class for a while."""
    own = name in vars(owner)  # rather than of the object's class
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        if own:
            setattr(owner, name, before)
        else:
            delattr(owner, name)


def _mark(device):
    if device.type != "cuda":
        return time.perf_counter()
    event = torch.cuda.Event(enable_timing=True)
    event.record(torch.cuda.current_stream(device))
    return event


def _seconds(before, after):
    return after - before if isinstance(after, float) else before.elapsed_time(after) / 1000
