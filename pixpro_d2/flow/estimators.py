"""Build estimators of optical flow by name.

An estimator is called with two (B, 3, H, W) uint8 RGB tensors. It returns the (B, 2, h, w) float32 flow from the first
frames to the second, in pixels of its own grid. ``estimator.scale`` says how coarse the grid is
(:func:`pixpro_d2.flow.grid.grid_size`). ``estimator.name`` names the estimator in the flow files.
"""

import torch

from ..utils.errors import UsageError, check_choice
from . import ESTIMATORS
from .dis import DIS
from .raft import RAFT, load_raft


def build_estimator(
    name: str = "dis", weights: str | None = None, device: str | torch.device = "cpu", scale: int = 8
) -> DIS | RAFT:
    """Build an estimator of optical flow.

    Args:
        name: an entry of ``ESTIMATORS``; ``dis`` needs no weights.
        weights: weights of RAFT, see :func:`pixpro_d2.flow.raft.load_raft`; by default from PyTorch's cache.
        device: device for RAFT; DIS always runs on the CPU.
        scale: the flow has 1 / scale of the frames' resolution.

    Raises:
        UsageError: if the name is unknown, or if the weights or the device are not available.
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
    except (RuntimeError, AssertionError) as error:  # PyTorch raises these for an unknown or missing device
        raise UsageError(
            f"{name} cannot run on the device '{device}': choose cpu or cuda, or the estimator dis."
        ) from error
    network, what = load_raft(name.removeprefix("raft_"), weights or "cache")
    return RAFT(network, f"{name} ({what})", device, scale)
