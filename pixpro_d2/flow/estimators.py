"""The estimators of optical flow by name.

An estimator is called with two (B, 3, H, W) uint8 RGB tensors, and returns (B, 2, h, w) float32, the flow from the
first frames to the second in pixels of its own grid. ``estimator.scale`` says how coarse that is
(:func:`pixpro_d2.flow.grid.grid_size`), ``estimator.name`` what made it.
"""

import torch

from ..utils.errors import UsageError, check_choice
from .dis import DIS
from .raft import RAFT, load_raft

ESTIMATORS = ("dis", "raft_small", "raft_large")


def build_estimator(name="dis", weights=None, device="cpu", scale=8):
    """Estimator of optical flow.

    Args:
        name (str): out of ``ESTIMATORS``; ``dis`` needs no weights.
        weights (str or None): of RAFT, see :func:`pixpro_d2.flow.raft.load_raft`; by default out of PyTorch's cache.
        device (str or torch.device): that RAFT runs on; DIS always runs on the CPU.
        scale (int): the flow has 1 / scale of the frames' resolution.

    Raises:
        UsageError: for an unknown name, or weights or a device that cannot be had.
    """
    check_choice("The estimator of optical flow", name, ESTIMATORS)
    if name == "dis":
        if weights:
            raise UsageError(
                f"The estimator dis takes no weights, but {weights} was named: choose raft_small or raft_large."
            )
        return DIS(scale=scale)
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # how PyTorch says that it knows no such device or finds none
        raise UsageError(
            f"{name} cannot run on the device '{device}': choose cpu or cuda, or the estimator dis."
        ) from error
    network, what = load_raft(name.removeprefix("raft_"), weights or "cache")
    return RAFT(network, f"{name} ({what})", device, scale)
