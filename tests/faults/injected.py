"""train_net.py with a fault in its model, in its processes too: what INJECT names, at iteration AT in RANK_OF_FAULT."""

import os
import signal
import sys
from pathlib import Path
from unittest import mock

import torch
from detectron2.utils import comm
from detectron2.utils.events import get_event_storage

from pixpro_d2.modeling.pixpro import PixPro

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


def fail(model, batch):
    """An exception."""
    raise ArithmeticError("injected")


def collapse(model, batch):
    """The same feature for every pixel."""
    for layer in model.projector.modules():
        if isinstance(layer, torch.nn.Conv2d):
            layer.weight.data.zero_()
            layer.bias.data.fill_(1.0)
    return _forward(model, batch)


INJECTIONS = {"nan": nan, "nan gradients": nan_gradients, "raise": fail, "collapse": collapse}


def record(model, batch):
    """Save what there is of the batch; ask the run to stop at STOP_AT."""
    iteration, rank = get_event_storage().iter, comm.get_rank()
    content = {"views": batch["views"], "boxes": batch["boxes"]}
    torch.save(content, Path(os.environ["RECORD"], f"{iteration:03d}_{rank}.pth"))
    if os.environ.get("STOP_AT") == str(iteration):
        os.kill(os.getpid(), signal.SIGUSR1)
    return _forward(model, batch)


def injected(name, at=None, rank=0):
    """Context in which the model is faulty, at iteration ``at`` (None: at all) of process ``rank``."""
    faulty = INJECTIONS[name]

    def forward(model, batch):
        hit = comm.get_rank() == rank and at in (None, get_event_storage().iter)
        return (faulty if hit else _forward)(model, batch)

    return mock.patch.object(PixPro, "forward", forward)


if __name__ in ("__main__", "__mp_main__"):  # the second in the processes that it starts
    sys.path[0] = str(Path(__file__).resolve().parents[2])
    import train_net
    from pixpro_d2.engine import argument_parser, launch

    if os.environ["INJECT"] == "record":
        PixPro.forward = record
    else:
        injected(os.environ["INJECT"], int(os.environ["AT"]), int(os.environ["RANK_OF_FAULT"])).start()
    if __name__ == "__main__":
        launch(train_net.main, argument_parser().parse_args())
