"""A small model whose weights tell its iteration, and processes that save and resume it."""

import itertools
import os
import resource
from pathlib import Path

import torch
import torch.distributed as dist
from detectron2.modeling import build_model

import configs
from pixpro_d2.checkpoint import PixProCheckpointer
from pixpro_d2.checkpoint.retention import remove_superseded
from pixpro_d2.utils.errors import UsageError


def build_with_statistics(cfg):
    """Build the model of a config in eval mode; the statistics of its norms differ from their start."""
    torch.manual_seed(4)
    model = build_model(cfg).eval()
    for name, value in model.state_dict().items():
        if "running_mean" in name:
            value.normal_(0, 0.1)
        elif "running_var" in name:
            value.uniform_(0.5, 1.5)
    return model


def save_pretraining(folder):
    """(model, path of its checkpoint) of a pre-training with random weights."""
    torch.manual_seed(3)
    model = build_model(configs.tiny())
    PixProCheckpointer(model, str(folder)).save("model_final", iteration=7)
    return model, str(folder / "model_final.pth")


def model_at(iteration, size=1000):
    """Two tensors of ``size`` values, all of them the iteration."""
    model = torch.nn.Module()
    for name in ("first", "second"):
        model.register_buffer(name, torch.full((size,), float(iteration)))
    return model


def save(folder, *iterations, size=1000):
    """Save ``model_at`` these iterations."""
    for iteration in iterations:
        checkpointer = PixProCheckpointer(model_at(iteration, size), str(folder))
        checkpointer.save(f"model_{iteration:07d}", iteration=iteration)


def resume(folder, size=1000):
    """The iteration that is resumed from in ``folder``; its weights are checked."""
    model = model_at(-1, size)
    iteration = PixProCheckpointer(model, str(folder)).resume()["iteration"]
    for name, value in model.state_dict().items():
        assert torch.equal(value, torch.full((size,), float(iteration))), name
    return iteration


def same(a, b):
    return set(a) == set(b) and all(a[n].dtype == b[n].dtype and torch.equal(a[n], b[n]) for n in a)


def save_until_killed(folder, name, size, connection):
    """Body of a process: go on from the last iteration, save after each, and send those whose save is complete.

    Args:
        name (str): that they are all saved under; "": each under its own.
    """
    torch.set_num_threads(1)
    first = resume(folder, size) + 1 if Path(folder, "last_checkpoint").exists() else 0
    for iteration in itertools.count(first):
        checkpointer = PixProCheckpointer(model_at(iteration, size), folder)
        checkpointer.save(name or f"model_{iteration:07d}", iteration=iteration)
        remove_superseded(folder, keep_last=3, keep_every=0)
        connection.send(iteration)


def save_in_too_little_room(folder, size, connection):
    """Body of a process: save iteration 0, then 1 with room for 1.5 of its 2 tensors; send what is said of that."""
    torch.set_num_threads(1)
    save(folder, 0, size=size)
    limit = os.path.getsize(os.path.join(folder, "model_0000000.pth")) * 3 // 4
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    try:
        save(folder, 1, size=size)
    except UsageError as error:
        connection.send(str(error))


def resume_together(rank, folders, meeting, path):
    """Body of one of several processes: resume in each of ``folders`` (a list for each process), and write what
    happened to ``path``."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=len(folders))
    results = []
    for folder in folders[rank]:
        try:
            results.append(resume(folder))
        except UsageError as error:
            results.append(str(error))
    torch.save(results, path)
    dist.destroy_process_group()
