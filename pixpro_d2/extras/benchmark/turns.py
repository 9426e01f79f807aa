"""Two ways of doing the same, in processes of their own, taking turns."""

import functools
from contextlib import ExitStack, contextmanager

import numpy as np
import torch

from .reference import ReferenceStep
from .step import TrainingStep
from .timing import spread, time_parts, time_steps
from .updates import UpdateStep


def build_side(cfg, name, updates_only, source):
    """What is measured of a side.

    Args:
        cfg (CfgNode): of :func:`pixpro_d2.extras.benchmark.step.measured_config`.
        name (str): ``ours`` or ``reference``.
        updates_only (bool): leave out all before the optimiser.
        source (str): of :func:`pixpro_d2.extras.benchmark.sources.build_batches`.
    """
    side = TrainingStep(cfg, source, read_period=1) if name == "ours" else ReferenceStep(cfg, source)
    return UpdateStep(side) if updates_only else side


def compare(cfg, repeats, warmup, updates_only=False, source="synthetic"):
    """Measure our step and the reference step alternately.

    Each is in a process of its own, so that neither has the other's allocator, memory formats, threads or caches; one
    steps while the other waits. Drifts of the machine's speed meet both.

    Args:
        cfg, updates_only, source: of :func:`build_side`.
        repeats, warmup (int): steps of each side that are measured, and that precede them.

    Returns:
        dict: seconds, a dict of side to list[float]; ratio, the spread of reference / ours over the repeats;
        difference, the largest between the values (losses, or norms of the weights) of both in the same step,
        warming up included, NaN if one of them is; parts, a dict of side to seconds by part.
    """
    sides = ("ours", "reference")
    seconds = {name: [] for name in sides}
    difference = 0.0
    with ExitStack() as stack:
        calls = {name: stack.enter_context(in_process(build_side, cfg, name, updates_only, source)) for name in sides}
        for repeat in range(warmup + repeats):
            values = {}
            for name, call in calls.items():
                taken, values[name] = call(_timed_step)
                if repeat >= warmup:
                    seconds[name].append(taken)
            differences = np.abs(np.subtract(values["ours"], values["reference"]))
            difference = float(np.max([difference, *differences]))  # NaN if any is
        parts = {name: call(time_parts, max(1, repeats // 4)) for name, call in calls.items()}
    ratios = [theirs / ours for ours, theirs in zip(seconds["ours"], seconds["reference"])]
    return {"seconds": seconds, "ratio": spread(ratios), "difference": difference, "parts": parts}


def _timed_step(steps):
    """Seconds of an iteration, and its values."""
    return time_steps(steps, 1)[0], steps.values()


@contextmanager
def in_process(build, *args):
    """Build an object in a new process.

    Yields:
        Callable: ``call(function, *args)`` runs ``function(object, *args)`` in the process and returns its result, or
        raises its exception. Functions must be those of a module.
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


def _call(connection, function, *args):
    try:
        connection.send((function, args))
        result = connection.recv()
    except (EOFError, ConnectionError):  # it died while it computed, or before
        raise RuntimeError("The measured process died; was there enough memory for both sides?") from None
    if isinstance(result, Exception):
        raise result
    return result


def _serve(connection, build, args):
    built = None
    while True:
        function, arguments = connection.recv()
        try:
            built = build(*args) if built is None else built
            connection.send(function(built, *arguments))
        except Exception as error:
            connection.send(error)
