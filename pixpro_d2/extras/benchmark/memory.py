"""Compute the memory of a step, and the largest batch that fits.

Most of the memory is what the forward pass leaves for the backward pass. Types and shapes determine this memory, so any
machine can count it, in the precision of a GPU.
"""

import math
from collections.abc import Iterable
from contextlib import ExitStack
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.utils.events import EventStorage

from ...engine.acceleration import AMP_DTYPES, accelerate
from ...modeling.pretrain import correspondence, losses, ppm
from ...modeling.pretrain.chunks import image_chunks
from ...modeling.pretrain.pixpro import PixPro
from ...solver.build import build_optimizer
from ...utils.patching import replaced
from .live_memory import LiveMemory
from .sources import synthetic_batch
from .step import build_start, uncompiled

GIB = 2**30
GPU_SIZES = (24, 40, 80, 141)  # GiB
RESERVED_BYTES = 2 * GIB  # CUDA's context, and internal memory of operators
FRAGMENTATION = 1.1  # ratio of allocated memory to used memory
CHUNKED_MODULES = (correspondence, losses, ppm)  # modules that process a batch in parts
LARGE_PART_IMAGES = 1024  # images; parts of this size are assumed to hold any batch


def memory_need(cfg: CfgNode, batches: tuple[int, int] = (2, 4)) -> dict[str, int]:
    """Compute the memory of a step in the precision of a GPU, without compilation, from two small batches.

    A step has the same operators for every batch size. The memory after each operator is a linear function of the
    number of images, so two batches determine all others. Some modules process a batch in parts (`pretrain.chunks`).
    The internal memory of a part does not grow with the batch, and is counted for a full part. Images are taken as
    already augmented, also with INPUT.AUG_DEVICE ``model``.

    Args:
        cfg: result of :func:`pixpro_d2.extras.benchmark.step.measured_config`.
        batches: two numbers of images, above 1.

    Returns:
        Bytes.

        * parameters, target: online branch and its copy, buffers included;
        * gradients, optimizer: gradients of the parameters, and the optimiser's state;
        * per image: peak memory of both views of an image, which decides about large batches;
        * fixed: memory that does not grow with the batch, such as weights in half precision and the inside of a part;
        * kept per image: memory that the forward pass leaves for the backward pass.
    """
    cfg = uncompiled(cfg)
    cfg.INPUT.AUG_DEVICE = "cpu"
    model = accelerate(cfg, build_start(cfg), "cuda")
    trained = [p for p in model.parameters() if p.requires_grad]
    for p in trained:
        p.grad = torch.zeros_like(p)  # allocate now, to list gradients separately
    dtype = AMP_DTYPES[cfg.SOLVER.AMP.DTYPE] if cfg.SOLVER.AMP.ENABLED else None
    (timeline, kept), (longer, more_kept) = (
        _timeline_and_kept(model, synthetic_batch(cfg, count), dtype) for count in batches
    )
    more = batches[1] - batches[0]
    slopes = [(b - a) // more for a, b in zip(timeline, longer, strict=True)]
    per_image = max(slopes)
    everything = _size([*model.parameters(), *model.buffers()])
    target = _size([x for _, copy in model.momentum_pairs() for x in (*copy.parameters(), *copy.buffers())])
    return {
        "parameters": everything - target,
        "target": target,
        "gradients": _size(trained),
        "optimizer": _state_size(build_optimizer(cfg, model)),
        "per image": per_image,
        "fixed": max(longer) - per_image * batches[1],  # exact for this batch, an upper bound for larger batches
        "kept per image": (more_kept - kept) // more,
    }


def largest_batch(need: dict[str, int], size: int) -> int:
    """Return the number of images in the largest batch that a GPU of ``size`` bytes should hold.

    The result is (size - RESERVED_BYTES - all entries of :func:`memory_need` without "per image") / (FRAGMENTATION *
    per image), or 0 if not even one image fits.
    """
    states = sum(value for name, value in need.items() if "per image" not in name)
    return max(0, math.floor((size - RESERVED_BYTES - states) / (FRAGMENTATION * need["per image"])))


def _timeline_and_kept(model: PixPro, batch: dict[str, Any], dtype: torch.dtype | None) -> tuple[list[int], int]:
    memory = LiveMemory()

    def chunks(count: int, pairs: int) -> Iterable[slice]:
        (part, *more) = image_chunks(LARGE_PART_IMAGES, pairs)
        return memory.parts(count, part.stop) if more else [slice(count)]

    with ExitStack() as stack:
        for module in CHUNKED_MODULES:
            stack.enter_context(replaced(module, "image_chunks", chunks))
        stack.enter_context(EventStorage())
        stack.enter_context(memory)
        with torch.autocast(model.device.type, dtype=dtype, enabled=dtype is not None):
            loss = sum(model(batch).values())
        kept = memory.alive()
        loss.backward()
    return memory.timeline, kept


def _state_size(optimizer: torch.optim.Optimizer) -> int:
    """Return the bytes of the optimiser's state after an update."""
    optimizer.step()
    return _size([x for state in optimizer.state.values() for x in state.values() if isinstance(x, torch.Tensor)])


def _size(tensors: Iterable[torch.Tensor]) -> int:
    return sum(x.nbytes for x in tensors)
