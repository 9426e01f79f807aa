"""Measure two implementations in turns, each in its own process."""

import functools
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing.connection import Connection
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode

from .lightly_step import LightlyStep
from .reference import ReferenceStep
from .step import TrainingStep
from .timing import Steps, quartiles, time_parts, time_steps
from .updates import UpdateStep


def build_side(cfg: CfgNode, name: str, updates_only: bool, source: str) -> Steps:
    """Build the measured steps of a side.

    Args:
        cfg: result of :func:`pixpro_d2.extras.benchmark.step.measured_config`.
        name: ``ours``, ``reference`` or ``lightly``.
        updates_only: measure only the optimiser and the momentum update, for ``ours`` and ``reference``.
        source: see :func:`pixpro_d2.extras.benchmark.sources.build_batches`.
    """
    if name == "lightly":
        return LightlyStep(cfg, source)
    side = TrainingStep(cfg, source, read_period=1) if name == "ours" else ReferenceStep(cfg, source)
    return UpdateStep(side) if updates_only else side


def compare(
    cfg: CfgNode, repeats: int, warmup: int, updates_only: bool = False, source: str = "synthetic",
    peer: str = "reference",
) -> dict[str, Any]:  # fmt: skip
    """Measure our step and another step alternately.

    Each side has its own process, so the sides share no allocator, memory formats, threads or caches. One side steps
    while the other side waits. Drifts of the machine's speed affect both sides.

    Args:
        cfg: see :func:`build_side`, also for ``updates_only`` and ``source``.
        repeats: measured steps of each side.
        warmup: steps of each side before the measured steps.
        peer: ``reference`` or ``lightly``.

    Returns:
        Results by name:

        * seconds: list[float] by side;
        * ratio: quartiles of peer / ours over the repeats;
        * difference: largest difference between the values (losses, or norms of the weights) of both sides in the same
          step, warm-up included; NaN if a value is NaN; None for a peer with another loss;
        * parts: seconds by part, by side.
    """
    sides = ("ours", peer)
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    difference = 0.0 if peer == "reference" else None
    with ExitStack() as stack:
        calls = {name: stack.enter_context(in_process(build_side, cfg, name, updates_only, source)) for name in sides}
        for repeat in range(warmup + repeats):
            values = {}
            for name, call in calls.items():
                taken, values[name] = call(_timed_step)
                if repeat >= warmup:
                    seconds[name].append(taken)
            if difference is not None:
                differences = np.abs(np.subtract(values["ours"], values[peer]))
                difference = float(np.max([difference, *differences]))  # NaN if any difference is NaN
        parts = {name: call(time_parts, max(1, repeats // 4)) for name, call in calls.items()}
    ratios = [theirs / ours for ours, theirs in zip(seconds["ours"], seconds[peer])]
    return {"seconds": seconds, "ratio": quartiles(ratios), "difference": difference, "parts": parts}


def _timed_step(steps: Steps) -> tuple[float, list[float]]:
    """Return the seconds of an iteration, and its values."""
    return time_steps(steps, 1)[0], steps.values()


@contextmanager
def in_process(build: Callable[..., Any], *args: Any) -> Iterator[Callable[..., Any]]:
    """Build an object in a new process.

    Yields:
        ``call(function, *args)`` runs ``function(object, *args)`` in the process, and returns its result or raises its
        exception. Functions must be importable.
    """
    context = torch.multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, build, args), daemon=True)
    process.start()
    theirs.close()
    try:
        yield functools.partial(_call, ours)
    finally:
        process.terminate()
        process.join()


def _call(connection: Connection, function: Callable[..., Any], *args: Any) -> Any:
    try:
        connection.send((function, args))
        result = connection.recv()
    except (EOFError, ConnectionError):  # the process died during the computation or before
        raise RuntimeError("The measured process died; was there enough memory for both sides?") from None
    if isinstance(result, Exception):
        raise result
    return result


def _serve(connection: Connection, build: Callable[..., Any], args: tuple) -> None:
    built = None
    while True:
        function, arguments = connection.recv()
        try:
            built = build(*args) if built is None else built
            connection.send(function(built, *arguments))
        except Exception as error:
            connection.send(error)
