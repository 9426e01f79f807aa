"""Measure the duration of steps and of their parts, by the clock of the CPU or of the GPU."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
import torch

from ...utils.patching import replaced


class Steps:
    """Run iterations that are measured."""

    device: torch.device
    batches: Iterator[dict[str, Any]]

    def next_batch(self) -> dict[str, Any]:
        """Return a batch of the source."""
        return next(self.batches)

    def prepare(self) -> None:
        """Prepare a step, outside the measured time."""

    def step(self) -> None:
        """Run one iteration."""
        raise NotImplementedError

    def values(self) -> list[float]:
        """Return the results of the last step."""
        raise NotImplementedError

    @property
    def parts(self) -> dict[str, tuple[Any, str]]:
        """Return (owner, method name) by the name of a part; calls of the method are the part."""
        raise NotImplementedError


def time_steps(steps: Steps, count: int) -> list[float]:
    """Measure the seconds of each of ``count`` iterations.

    On a GPU the CPU runs ahead, as in training, and waits only after the last iteration.
    """
    marks = []
    for _ in range(count):
        steps.prepare()
        before = _mark(steps.device)
        steps.step()
        marks.append((before, _mark(steps.device)))
    synchronize(steps.device)
    return [_seconds(before, after) for before, after in marks]


def time_parts(steps: Steps, count: int) -> dict[str, float]:
    """Measure the median seconds of each part of an iteration over ``count`` iterations.

    The time of a part excludes the parts that it calls. Time outside of all parts is "rest". On a GPU the CPU waits for
    every part, so the sum of the parts exceeds the time of an iteration.
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


def synchronize(device: torch.device) -> None:
    """Wait for the device; do nothing for the CPU."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def quartiles(values: Sequence[float]) -> dict[str, float]:
    """Return the smallest and largest number, and the quartiles."""
    names = ("min", "lower_quartile", "median", "upper_quartile", "max")
    return dict(zip(names, np.quantile(values, (0, 0.25, 0.5, 0.75, 1)).tolist()))


class PartClock:
    """Sum seconds by part, without the seconds of the parts that a part calls."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds: dict[str, float] = defaultdict(float)
        self._inner = [0.0]  # seconds of the called parts, for each call in progress, outermost first

    def timed(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap ``function``, and add its time to ``part``."""

        def wrapper(*args: Any, **kwargs: Any) -> Any:
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


def _mark(device: torch.device) -> float | torch.cuda.Event:
    if device.type != "cuda":
        return time.perf_counter()
    event = torch.cuda.Event(enable_timing=True)
    event.record(torch.cuda.current_stream(device))
    return event


def _seconds(before: Any, after: Any) -> float:
    return after - before if isinstance(after, float) else before.elapsed_time(after) / 1000
