"""Optical flow by RAFT (Teed and Deng, 2020) in torchvision's implementation."""

import os

import torch
from torch import nn
from torchvision.models import optical_flow

from ..checkpoint.reading import read_checkpoint
from ..checkpoint.tensors import check_tensors
from ..utils.errors import UsageError, check_choice
from .grid import pad_frames, to_grid

NETWORKS = {
    "small": (optical_flow.raft_small, optical_flow.Raft_Small_Weights.DEFAULT),
    "large": (optical_flow.raft_large, optical_flow.Raft_Large_Weights.DEFAULT),
}
STRIDE = 8  # stride of RAFT's features, pixels: both sides of the frames must be divisible by it
MIN_SIDE = 128  # pixels; below this size, the coarsest level of the correlations is empty


class RAFT:
    """Estimate flow by a frozen RAFT network.

    The class is no ``nn.Module``, so that a model with a RAFT neither trains, saves, converts nor distributes it.
    Threads must not share a RAFT: the network stores the correlations of the current call.
    """

    def __init__(
        self,
        network: nn.Module,
        name: str,
        device: str | torch.device = "cpu",
        scale: int = 8,
        sub_batch: int = 8,
    ) -> None:
        """
        Args:
            network: takes two batches of float frames in [-1, 1], whose sides are divisible by 8 and at
                least 128; returns a list whose last entry is the flow in pixels of the frames.
            name: name of the network and its weights; written with the flow.
            device: device that the network runs on.
            scale: the flow has 1 / scale of the frames' resolution, see :func:`~.grid.grid_size`.
            sub_batch: pairs of frames per call of the network. The correlations take 1.1 GB of memory per
                pair at 1280 x 720.
        """
        self.network = network.eval().requires_grad_(False).to(device)
        self.name = name
        self.device = torch.device(device)
        self.scale = scale
        self.sub_batch = sub_batch

    @torch.no_grad()
    def __call__(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        """Estimate the flow from the first frames to the second.

        Args:
            first, second: (B, 3, H, W) uint8 RGB frames on any device, of any size. Frames of a size that the network
                cannot process are padded by repeating their last rows and columns.

        Returns:
            (B, 2, h, w) float32 flow on the network's device, in pixels of its own grid.
        """
        pairs = zip(first.split(self.sub_batch), second.split(self.sub_batch))
        with torch.autocast(self.device.type, enabled=False):
            return torch.cat([self._flow(*pair) for pair in pairs])

    def _flow(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        height, width = first.shape[-2:]
        size = [max(MIN_SIDE, -(-side // STRIDE) * STRIDE) for side in (height, width)]
        frames = [pad_frames(x.to(self.device), size).float() / 127.5 - 1 for x in (first, second)]
        return to_grid(self.network(*frames)[-1][..., :height, :width], self.scale)


def load_raft(size: str, weights: str = "cache") -> tuple[nn.Module, str]:
    """Load a RAFT network with its weights; never download weights.

    Args:
        size: ``small`` or ``large``.
        weights: file with a state dict of torchvision's network; ``cache`` for torchvision's default weights in
            PyTorch's cache; ``random`` for random weights.

    Returns:
        The network, and a short name of the weights.

    Raises:
        UsageError: if the file is missing, damaged or made for another network.
    """
    check_choice("The size of RAFT", size, tuple(NETWORKS))
    build, default = NETWORKS[size]
    network = build(weights=None)
    if weights == "random":
        return network, weights
    path = _cached(default.url) if weights == "cache" else weights
    state = read_checkpoint(path)
    check_tensors(state, path)
    try:
        network.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError) as error:  # wrong names or shapes, or no tensors
        raise UsageError(
            f"{path} does not fit torchvision's raft_{size}: name a state dict of that network, such as {default.url}."
        ) from error
    return network, os.path.splitext(os.path.basename(path))[0]


def _cached(url: str) -> str:
    """Return the path where PyTorch's cache keeps the file of ``url``."""
    path = os.path.join(torch.hub.get_dir(), "checkpoints", os.path.basename(url))
    if not os.path.isfile(path):
        raise UsageError(
            f"There are no weights of RAFT at {path}: fetch {url} to this path, name a file of your own, or use the "
            "estimator dis, which needs none."
        )
    return path
