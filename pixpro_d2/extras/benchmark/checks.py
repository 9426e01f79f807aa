"""Check a step for hidden costs that do not show in its result."""

import warnings

import torch

from ...solver.lars import in_format_of
from .step import TrainingStep


def copied_gradients(training: TrainingStep) -> int:
    """Count the gradients that :class:`pixpro_d2.solver.lars.LARS` copies, because their memory format differs.

    Args:
        training: training after a step.
    """
    gradients = [(p, p.grad) for p in training.model.parameters() if p.grad is not None]
    return sum(in_format_of(p, grad).data_ptr() != grad.data_ptr() for p, grad in gradients)


def waits(training: TrainingStep) -> list[str] | None:
    """Run one more step and list the places where the CPU waits for the GPU, by PyTorch's synchronisation debug mode.

    Args:
        training: training; an iteration that reads its losses waits once.

    Returns:
        ``file:line`` of the Python code of each wait; None on the CPU.
    """
    if training.device.type != "cuda":
        return None
    before = torch.cuda.get_sync_debug_mode()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            training.step()
        finally:
            torch.cuda.set_sync_debug_mode(before)
    return [f"{x.filename}:{x.lineno}" for x in caught if "synchronizing CUDA operation" in str(x.message)]
