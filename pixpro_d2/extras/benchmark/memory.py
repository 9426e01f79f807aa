"""How much memory a step needs, and how large a batch fits.

Most of it is what the forward pass leaves behind for the backward pass. That is counted on any machine, in the
precision of a GPU: it depends on types and shapes only.
"""

import math
from contextlib import ExitStack

import torch
from detectron2.utils.events import EventStorage

from ...engine.acceleration import AMP_DTYPES, prepare_model
from ...modeling.pretrain import correspondence, losses, ppm
from ...modeling.pretrain.chunks import image_chunks
from ...solver.build import build_optimizer
from .live_memory import LiveMemory
from .sources import synthetic_batch
from .step import build_start, uncompiled
from .timing import replaced

GIB = 2**30
GPU_SIZES = (24, 40, 80, 141)  # GiB
RESERVED = 2 * GIB  # CUDA's context, and what operators use inside
FRAGMENTATION = 1.1  # what the allocator holds to what is in use
CHUNKED = (correspondence, losses, ppm)  # modules that work through a batch in parts
LARGE_PART = 1024  # images: parts that hold so many are taken to hold any batch


def memory_need(cfg, batches=(2, 4)):
    """Memory of a step in the precision of a GPU, without compilation, from computing small batches.

    A step is the same operators whatever the batch, and what is there after each of them a linear function of the
    images: two batches tell it for all others. Where a batch is worked through in parts
    (`pretrain.chunks`), what is needed inside a part does not grow with the batch, and is counted for a
    full part. Images are taken as augmented, with INPUT.AUG_DEVICE ``model`` too.

    Args:
        cfg (CfgNode): of :func:`pixpro_d2.extras.benchmark.step.measured_config`.
        batches (tuple[int, int]): two numbers of images, above 1.

    Returns:
        dict[str, int]: bytes

        * parameters, target: of the online branch and of its copy, buffers included;
        * gradients, optimizer: of the parameters, and the optimiser's state;
        * per image: what both views of an image need when that is most, which decides about large batches;
        * fixed: what does not grow with the batch, such as weights in half precision and the inside of a part;
        * kept per image: what the forward pass leaves for the backward pass.
    """
    cfg = uncompiled(cfg)
    cfg.INPUT.AUG_DEVICE = "cpu"
    model = prepare_model(cfg, build_start(cfg))
    trained = [p for p in model.parameters() if p.requires_grad]
    for p in trained:
        p.grad = torch.zeros_like(p)  # now, so that they are listed by themselves
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
        "fixed": max(longer) - per_image * batches[1],  # exact for that batch, an upper bound for larger ones
        "kept per image": (more_kept - kept) // more,
    }


def largest_batch(need, size):
    """Images in the largest batch that a GPU of ``size`` bytes should hold.

    (size - RESERVED - all that :func:`memory_need` lists without "per image") / (FRAGMENTATION * per image); 0 if
    not even one fits.
    """
    states = sum(value for name, value in need.items() if "per image" not in name)
    return max(0, math.floor((size - RESERVED - states) / (FRAGMENTATION * need["per image"])))


def _timeline_and_kept(model, batch, dtype):
    memory = LiveMemory()

    def chunks(count, pairs):
        (part, *more) = image_chunks(LARGE_PART, pairs)
        return memory.parts(count, part.stop) if more else [slice(count)]

    with ExitStack() as stack:
        for module in CHUNKED:
            stack.enter_context(replaced(module, "image_chunks", chunks))
        stack.enter_context(EventStorage())
        stack.enter_context(memory)
        with torch.autocast(model.device.type, dtype=dtype, enabled=dtype is not None):
            loss = sum(model(batch).values())
        kept = memory.alive()
        loss.backward()
    return memory.timeline, kept


def _state_size(optimizer):
    """Bytes of the optimiser's state after an update."""
    optimizer.step()
    return _size([x for state in optimizer.state.values() for x in state.values() if isinstance(x, torch.Tensor)])


def _size(tensors):
    return sum(x.nbytes for x in tensors)
