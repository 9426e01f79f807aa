"""train_net.py with a fault in it, in its processes too: what INJECT names, at iteration AT in process RANK_OF_FAULT.

AT is empty for all iterations, RANK_OF_FAULT for all processes.
"""

import os
import signal
import sys
from pathlib import Path
from unittest import mock

import torch
from detectron2.utils import comm
from detectron2.utils.events import get_event_storage

from pixpro_d2.engine.loop import StepGuard
from pixpro_d2.modeling.pretrain.pixpro import PixPro

PROGRAM = "tests/faults/injected.py"

_forward = PixPro.forward


def nan(model, batch):
    """Losses that are NaN."""
    return {name: value * float("nan") for name, value in _forward(model, batch).items()}


def nan_gradients(model, batch):
    """Losses as they should be, whose gradients are NaN."""
    losses = _forward(model, batch)
    for value in losses.values():
        value.register_hook(lambda gradient: gradient * float("nan"))
    return losses


def nan_batch(model, batch):
    """Images that are NaN, and with them all that is computed: features, keys, statistics of norms."""
    return _forward(model, {**batch, "views": torch.full_like(batch["views"], float("nan"), dtype=torch.float32)})


def skip(model, batch):
    """No fault: an iteration whose step the optimiser is not asked for, and which changes no floating-point buffer."""
    before = {name: value.clone() for name, value in model.named_buffers() if value.is_floating_point()}
    step = StepGuard.step

    def pass_over(*args):
        StepGuard.step = step
        for name, value in model.named_buffers():
            if name in before:
                value.copy_(before[name])

    StepGuard.step = pass_over
    return _forward(model, batch)


def fail(model, batch):
    """An exception."""
    raise ArithmeticError("injected")


def fail_at_length(model, batch):
    """An exception with more to say than a pipe holds."""
    raise ArithmeticError(200_000 * "x" + " injected")


def collapse(model, batch):
    """The same feature for every pixel."""
    for layer in model.projector.modules():
        if isinstance(layer, torch.nn.Conv2d):
            layer.weight.data.zero_()
            layer.bias.data.fill_(1.0)
    return _forward(model, batch)


def record(model, batch):
    """Save what there is of the batch; ask the run to stop at STOP_AT."""
    iteration, rank = get_event_storage().iter, comm.get_rank()
    content = {"views": batch["views"], "boxes": batch["boxes"]}
    torch.save(content, Path(os.environ["RECORD"], f"{iteration:03d}_{rank}.pth"))
    if os.environ.get("STOP_AT") == str(iteration):
        os.kill(os.getpid(), signal.SIGUSR1)
    return _forward(model, batch)


INJECTIONS = {
    "nan": nan,
    "nan gradients": nan_gradients,
    "nan batch": nan_batch,
    "skip": skip,
    "raise": fail,
    "raise at length": fail_at_length,
    "collapse": collapse,
    "record": record,
}


def injected(name, at=None, rank=None):
    """Context in which the model is faulty, at iteration ``at`` (None: at all) of process ``rank`` (None: of all)."""
    faulty = INJECTIONS[name]

    def forward(model, batch):
        hit = model.training and rank in (None, comm.get_rank()) and at in (None, get_event_storage().iter)
        return (faulty if hit else _forward)(model, batch)

    return mock.patch.object(PixPro, "forward", forward)


def variables(name, at=None, rank=None):
    """The environment in which this program does as in the context of :func:`injected`."""
    at, rank = ("" if value is None else str(value) for value in (at, rank))
    return {"INJECT": name, "AT": at, "RANK_OF_FAULT": rank}


if __name__ in ("__main__", "__mp_main__"):  # the second in the processes that it starts
    sys.path[0] = str(Path(__file__).resolve().parents[2])
    from pixpro_d2.engine.main import run

    at, rank = (int(os.environ[name]) if os.environ[name] else None for name in ("AT", "RANK_OF_FAULT"))
    injected(os.environ["INJECT"], at, rank).start()
    if __name__ == "__main__":
        run()
