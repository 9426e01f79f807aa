"""What makes a run fast on a given device and changes no result beyond rounding."""

import ctypes
import logging
import sys

import torch
from detectron2.config import CfgNode

from ..modeling.backbone import bottom_up
from ..modeling.recompute import recompute_stages
from ..utils.errors import UsageError, check_choice

logger = logging.getLogger(__name__)

AMP_DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3  # glibc's malloc.h
_GIB = 2**30


def amp_dtype(cfg: CfgNode) -> torch.dtype | None:
    """Return the type to autocast to by ``SOLVER.AMP``; None for float32, also where half precision does not pay.

    A GPU takes ``DTYPE``, or float16 if it has no bfloat16. A processor takes bfloat16 if it has instructions for it.
    """
    name, device = cfg.SOLVER.AMP.DTYPE, torch.device(cfg.MODEL.DEVICE).type
    if not cfg.SOLVER.AMP.ENABLED:
        return None
    if device == "cuda":
        if name == "bfloat16" and torch.cuda.is_available() and not torch.cuda.is_bf16_supported(False):
            logger.warning("This GPU has no bfloat16: SOLVER.AMP.DTYPE is float16, with a loss scaler.")
            return torch.float16
        return AMP_DTYPES[name]
    if device == "cpu" and name == "bfloat16" and cpu_has_bfloat16():
        return torch.bfloat16
    logger.info(f"SOLVER.AMP: this {device} has no fast {name}, the run computes in float32.")
    return None


def cpu_has_bfloat16() -> bool:
    """Return whether this processor multiplies bfloat16 by instructions of its own: AVX512-BF16, AMX or Arm's."""
    if hasattr(torch.cpu, "get_capabilities"):  # PyTorch 2.11
        found = torch.cpu.get_capabilities()
        return any(found.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    return torch.cpu._is_avx512_bf16_supported()  # PyTorch 2.6 to 2.10


def set_precision(cfg):
    """Let float32 products and convolutions use TensorFloat-32 or not, by ``SOLVER.AMP.TF32``; for the process.

    detectron2 after v0.6 has the key FLOAT32_PRECISION (``highest``, ``high`` or ``medium``), which decides where it is
    not empty.
    """
    precision = cfg.get("FLOAT32_PRECISION", "") or ("high" if cfg.SOLVER.AMP.TF32 else "highest")
    check_choice("FLOAT32_PRECISION", precision, ("highest", "high", "medium"))
    torch.set_float32_matmul_precision(precision)
    torch.backends.cudnn.allow_tf32 = precision != "highest"


def keep_freed_memory(device):
    """Make the C library keep freed memory for the next iteration, when training on the CPU.

    glibc hands large blocks back to the system at once; each activation's pages are then mapped and zeroed anew in
    every iteration (measured: 5 to 13 % of a step). Other C libraries have no such option and are left alone.
    """
    if torch.device(device).type != "cpu" or sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    # Old versions of glibc refuse such a limit; setting the others alone would make things worse.
    if mallopt is not None and mallopt(_M_MMAP_THRESHOLD, _GIB):
        mallopt(_M_TRIM_THRESHOLD, 2 * _GIB - 1)
        mallopt(_M_TOP_PAD, _GIB // 4)


def prepare_model(cfg, model):
    """Apply the keys of ``MODEL.PIXPRO`` on memory format, recomputation and compilation to a built PixPro model."""
    pixpro = cfg.MODEL.PIXPRO
    if pixpro.RECOMPUTE and pixpro.COMPILE:
        raise UsageError(
            "MODEL.PIXPRO.RECOMPUTE and COMPILE do not go together, torch.compile refuses what is computed twice: set "
            "one of them False."
        )
    if pixpro.CHANNELS_LAST:
        model.to(memory_format=torch.channels_last)
    if pixpro.RECOMPUTE:
        recompute_stages(model.backbone)
    if pixpro.COMPILE:
        compile_parts(model)
    return model


def compile_parts(model):
    """Compile the networks of both branches in place; without a compiler, or what it cannot take, stays as it is.

    The method's own part, losses and geometry, is a few large operations and not compiled.
    """
    reason = _compiler_failure(next(model.parameters()).device)
    if reason:
        logger.warning(f"MODEL.PIXPRO.COMPILE: torch.compile does not work here, the model runs uncompiled: {reason}")
        return
    torch._dynamo.config.suppress_errors = True  # a part that cannot be compiled runs as it is; PyTorch logs why
    backbones = [model.backbone, model.target_backbone]
    if model.instance is not None:
        # The instance branch looks into an FPN by a hook, which must not become part of a compiled graph.
        backbones = [bottom_up(backbone) for backbone in backbones]
    heads = [model.head, model.target_head, model.projector, model.target_projector]
    for module in (*backbones, *heads):
        if module is not None:
            module.forward = torch.compile(module.forward, dynamic=False)


def _compiler_failure(device):
    """First line of the error that compiling a product and its gradient raises on ``device``; empty if it works."""
    try:
        x = torch.ones(2, device=device, requires_grad=True)
        torch.compile(lambda x: (x * x).sum(), dynamic=False)(x).backward()
    except Exception as error:  # whatever a missing or broken tool chain raises
        return str(error).strip().splitlines()[0]
    return ""
