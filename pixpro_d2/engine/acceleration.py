"""Speed up a run on its device, without changing any result beyond rounding."""

import ctypes
import logging
import sys
from typing import TYPE_CHECKING

import torch
from detectron2.config import CfgNode
from torch import Tensor, nn

from ..modeling.backbone import bottom_up
from ..modeling.recompute import recompute_stages
from ..modeling.small_maps import multiply_small_maps
from ..utils.errors import UsageError, check_choice
from ..utils.precision import cpu_has_bfloat16

if TYPE_CHECKING:
    from ..modeling.pretrain.pixpro import PixPro

logger = logging.getLogger(__name__)

AMP_DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16}
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3  # glibc's malloc.h
_GIB = 2**30


def amp_dtype(cfg: CfgNode) -> torch.dtype | None:
    """Return the type to autocast to by ``SOLVER.AMP``; None for float32, also if half precision would not be faster.

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
    if device == "cpu" and _cpu_takes_bfloat16(cfg):
        return torch.bfloat16
    logger.info(f"SOLVER.AMP: this {device} has no fast {name}, the run computes in float32.")
    return None


def _cpu_takes_bfloat16(cfg: CfgNode) -> bool:
    """Return whether a run on this processor computes in bfloat16."""
    return cfg.SOLVER.AMP.ENABLED and cfg.SOLVER.AMP.DTYPE == "bfloat16" and cpu_has_bfloat16()


def set_precision(cfg: CfgNode) -> None:
    """Allow or forbid TensorFloat-32 in float32 products and convolutions of this process, by ``SOLVER.AMP.TF32``.

    detectron2 after v0.6 has the key FLOAT32_PRECISION (``highest``, ``high`` or ``medium``). If that key is not empty,
    it decides instead.
    """
    precision = cfg.get("FLOAT32_PRECISION", "") or ("high" if cfg.SOLVER.AMP.TF32 else "highest")
    check_choice("FLOAT32_PRECISION", precision, ("highest", "high", "medium"))
    torch.set_float32_matmul_precision(precision)
    torch.backends.cudnn.allow_tf32 = precision != "highest"


def keep_freed_memory(device: str | torch.device) -> None:
    """Make the C library keep freed memory for the next iteration, when training on the CPU.

    glibc returns large blocks to the system at once. The pages of each activation are then mapped and zeroed again in
    every iteration (measured: 5 to 13 % of a step). Other C libraries have no such option and stay as they are.
    """
    if torch.device(device).type != "cpu" or sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    # Old versions of glibc refuse this limit. The other two limits alone would make training slower.
    if mallopt is not None and mallopt(_M_MMAP_THRESHOLD, _GIB):
        mallopt(_M_TRIM_THRESHOLD, 2 * _GIB - 1)
        mallopt(_M_TOP_PAD, _GIB // 4)


def accelerate(cfg: CfgNode, model: "PixPro", device: str | None = None) -> "PixPro":
    """Apply the keys of ``MODEL.PIXPRO`` on memory format, recomputation and compilation to a built PixPro model.

    Args:
        cfg: config.
        model: the model.
        device: type of the device, ``cpu`` or ``cuda``; by default that of the model.

    Raises:
        UsageError: if both recomputation and compilation are on.
    """
    pixpro = cfg.MODEL.PIXPRO
    if pixpro.RECOMPUTE and pixpro.COMPILE:
        raise UsageError(
            "MODEL.PIXPRO.RECOMPUTE and COMPILE do not go together, torch.compile refuses what is computed twice: set "
            "one of them False."
        )
    if pixpro.CHANNELS_LAST:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # PyTorch types no such call
        if (device or model.device.type) == "cpu" and not _cpu_takes_bfloat16(cfg):
            for backbone in (model.backbone, model.target_backbone):
                speed_up_res5(bottom_up(backbone))
    if pixpro.RECOMPUTE:
        recompute_stages(model.backbone)
    if pixpro.COMPILE:
        compile_parts(model)
    return model


def speed_up_res5(network: nn.Module) -> None:
    """Make the stage ``res5`` of a ResNet contiguous, and multiply small maps; leave a network without it as it is.

    The stage has the largest weights and the smallest maps. PyTorch copies the gradient of a channels-last weight on
    the CPU one value at a time, which then takes as long as the convolution. Measured in float32 with contiguous
    weights and inputs: a step of ResNet-18 with a pyramid takes 6 to 13 % less time with views of 64 to 160 pixels, a
    step of ResNet-50 with 224 pixels 1.5 %. Matrix products save another 8 to 10 % of a step with views of 64 pixels.
    """
    stage = getattr(network, "res5", None)
    if stage is not None:
        stage.to(memory_format=torch.contiguous_format)
        stage.register_forward_pre_hook(_contiguous_input)
        multiply_small_maps(stage)


def _contiguous_input(stage: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
    return (inputs[0].contiguous(),)


def compile_parts(model: "PixPro") -> None:
    """Compile the networks of both branches in place.

    Without a working compiler, log a warning and leave the model as it is. A network that cannot be compiled also runs
    as it is. Losses and geometry are a few large operations, so they are not compiled.
    """
    reason = _compiler_failure(next(model.parameters()).device)
    if reason:
        logger.warning(f"MODEL.PIXPRO.COMPILE: torch.compile does not work here, the model runs uncompiled: {reason}")
        return
    torch._dynamo.config.suppress_errors = True  # a part that cannot be compiled runs as it is; PyTorch logs why
    # A SyncBN ends a graph. Each block and convolution is then compiled for each of its shapes. Beyond PyTorch's limit
    # of 8 shapes for one piece of code, it runs as it is.
    torch._dynamo.config.recompile_limit, torch._dynamo.config.accumulated_recompile_limit = 256, 4096
    backbones = [model.backbone, model.target_backbone]
    if model.instance is not None:
        # The instance branch reads a feature inside an FPN by a hook. A compiled graph must not contain this hook.
        backbones = [bottom_up(backbone) for backbone in backbones]
    heads = [model.head, model.target_head, model.projector, model.target_projector]
    for module in (*backbones, *heads):
        if module is not None:
            module.forward = torch.compile(module.forward, dynamic=False)


def _compiler_failure(device: torch.device) -> str:
    """Return the first line of the error that a small compilation raises on ``device``; empty if it works."""
    try:
        x = torch.ones(2, device=device, requires_grad=True)
        torch.compile(lambda x: (x * x).sum(), dynamic=False)(x).backward()
    except Exception as error:  # a missing or broken tool chain raises errors of many kinds
        return str(error).strip().splitlines()[0]
    return ""
