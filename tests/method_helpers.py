"""Training steps of the pre-training methods, in one process or in several."""

import torch
from detectron2.modeling import build_model
from detectron2.utils import comm
from detectron2.utils.events import EventStorage

import configs
from pixpro_d2.engine.trainer import wrap_ddp

C5 = ("MODEL.BACKBONE.NAME", "build_resnet_backbone", "MODEL.RESNETS.OUT_FEATURES", ["res5"])
C5 += ("MODEL.PIXPRO.IN_FEATURES", ["res5"], "MODEL.PIXPRO.PPM.ENABLED", False)
NO_NORM = ("MODEL.RESNETS.NORM", "", "MODEL.PIXPRO.NORM", "", "MODEL.PIXPRO.ZERO_INIT_RESIDUAL", False)


def crops(matched, seed=0):
    """A batch of noise; where ``matched`` (a list of bool) the two views of an image overlap, otherwise not."""
    n = len(matched)
    generator = torch.Generator().manual_seed(seed)
    boxes = torch.tensor([[[0.0, 0, 60, 60], [10, 10, 70, 70] if match else [70, 70, 80, 80]] for match in matched])
    return {
        "views": torch.randint(0, 256, (n, 2, 3, 64, 64), generator=generator, dtype=torch.uint8),
        "boxes": boxes,
        "image_sizes": torch.full((n, 2), 80.0),
    }


def share(batch, rank, world_size):
    """This process's part of a batch: consecutive images."""
    n = len(batch["views"]) // world_size
    return {name: x[rank * n : (rank + 1) * n] for name, x in batch.items()}


def train(opts, batches):
    """Steps of SGD from the same random start on this process's share of each batch.

    Returns:
        dict: ``losses``, for each batch a dict of the means over the processes; ``gradients`` of the first step and
        ``buffers`` of the method after the last, by name.
    """
    torch.manual_seed(0)
    cfg = configs.tiny(*C5, *opts)
    model = build_model(cfg).train()
    branches, gradients, losses = wrap_ddp(cfg, model), {}, []
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.02)
    for batch in batches:
        with EventStorage():
            parts = branches(share(batch, comm.get_rank(), comm.get_world_size()))
        optimizer.zero_grad()
        sum(parts.values()).backward()
        if not gradients:
            gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.requires_grad}
        optimizer.step()
        everywhere = comm.all_gather({name: loss.item() for name, loss in parts.items()})
        losses.append({name: sum(x[name] for x in everywhere) / len(everywhere) for name in parts})
    return {"losses": losses, "gradients": gradients, "buffers": dict(model.method.named_buffers())}


def train_model(model, batches):
    """Steps of SGD and of the target's momentum on a model of one process; the losses of each step, by name."""
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    history = []
    for batch in batches:
        with EventStorage():
            losses = model(batch)
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
        model.move_target(0.9)
        history.append({name: loss.item() for name, loss in losses.items()})
    return history


def train_each(runs):
    """What :func:`train` returns for each of ``runs``, name -> its arguments."""
    return {name: train(*run) for name, run in runs.items()}
