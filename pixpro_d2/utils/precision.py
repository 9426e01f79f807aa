"""Half precision that a device computes fast."""

import torch


def half_precision(device: torch.device) -> torch.dtype | None:
    """Return bfloat16 if the device has it, else float16 on a GPU; None if half precision would not be faster."""
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported(False) else torch.float16
    return torch.bfloat16 if device.type == "cpu" and cpu_has_bfloat16() else None


def cpu_has_bfloat16() -> bool:
    """Return whether this processor has instructions for products of bfloat16: AVX512-BF16, AMX or Arm's."""
    if hasattr(torch.cpu, "get_capabilities"):  # PyTorch 2.11
        found = torch.cpu.get_capabilities()
        return any(found.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))
    return torch.cpu._is_avx512_bf16_supported()  # PyTorch 2.6 to 2.10
