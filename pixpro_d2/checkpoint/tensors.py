"""Check that the tensors of a file are weights that a model can start from."""

from collections.abc import Mapping

import torch
from torch import Tensor

from ..utils.errors import UsageError

_NUMBERS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
# Endings of tensors that no whole numbers can be; the second line has parameters of timm's networks.
_REAL = (
    *(".weight", ".bias", ".running_mean", ".running_var"),
    *(".gamma", "pos_embed", "_token", "relative_position_bias_table"),
)


def check_tensors(tensors: Mapping[str, Tensor], path: str) -> None:
    """Check that the weights of a file are dense numbers, finite, and not those of a network that nothing is left of.

    Args:
        tensors: by name; values of other types do not count.
        path: of the file, for messages.

    Raises:
        UsageError: naming the first tensor that is wrong.
    """
    values = {name: value for name, value in tensors.items() if isinstance(value, Tensor)}
    odd = next((name for name, value in values.items() if _kind(name, value)), None)
    if odd is not None:
        raise UsageError(
            f"{path} has weights that are no plain numbers ({odd} is {_kind(odd, values[odd])}): save them as float32 "
            "by the code that wrote them."
        )
    bad = [name for name, value in values.items() if not torch.isfinite(value).all()]
    if bad:
        raise UsageError(
            f"{path} has infinite or NaN values in {len(bad)} of {len(values)} tensors ({bad[0]} is the first): the "
            "training that wrote it has diverged, take an earlier checkpoint or other weights."
        )
    negative = [name for name, value in values.items() if name.endswith(".running_var") and (value < 0).any()]
    if negative:
        raise UsageError(f"{path} has negative variances ({negative[0]} is the first): take other weights.")
    matrices = [value for value in values.values() if value.ndim > 1]
    if matrices and not any(value.any() for value in matrices):
        raise UsageError(f"{path} has nothing but zeros in its {len(matrices)} weights: take other weights.")


def _kind(name: str, tensor: Tensor) -> str:
    """Return what a tensor is instead of dense numbers; "" for dense numbers."""
    if tensor.is_meta:
        return "without values, on the meta device"
    if tensor.is_quantized:
        return "quantised"
    if tensor.layout != torch.strided:
        return "sparse"
    floating = tensor.is_floating_point() or tensor.is_complex()
    if (floating or name.endswith(_REAL)) and tensor.dtype not in _NUMBERS:
        return f"of type {str(tensor.dtype).removeprefix('torch.')}"
    return ""
