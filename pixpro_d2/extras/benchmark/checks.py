"""What would slow a step down without a trace in its result."""

import warnings

import torch

from ...solver.lars import in_format_of


def copied_gradients(training):
    """Parameters whose gradients :class:`pixpro_d2.solver.lars.LARS` copies, since they lie otherwise in memory.

    Args:
        training (TrainingStep): after a step.

    Returns:
        int: of as many gradients.
    """
    gradients = [(p, p.grad) for p in training.model.parameters() if p.grad is not None]
    return sum(in_format_of(p, grad).data_ptr() != grad.data_ptr() for p, grad in gradients)


def waits(training):
    """Places in one more step where the CPU waits for the GPU, as PyTorch's synchronisation debug mode reports them.

    Args:
        training (TrainingStep): an iteration that reads its losses waits for that once.

    Returns:
        list[str] or None: ``file:line`` of the Python code of each wait; None on the CPU.
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
