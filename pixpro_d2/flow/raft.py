"""Optical flow by RAFT (Teed and Deng, 2020) as torchvision has it."""

import os

import torch
from torchvision.models import optical_flow

from ..checkpoint.reading import read_checkpoint
from ..checkpoint.tensors import check_tensors
from ..errors import UsageError, check_choice
from .grid import pad_frames, to_grid

NETWORKS = {
    "small": (optical_flow.raft_small, optical_flow.Raft_Small_Weights.DEFAULT),
    "large": (optical_flow.raft_large, optical_flow.Raft_Large_Weights.DEFAULT),
}
STRIDE = 8  # of its features: both sides of the frames must be divisible by it
MIN_SIDE = 128  # below, the coarsest level of its correlations has no pixel left


class RAFT:
    """A frozen RAFT network as an estimator of optical flow.

    No ``nn.Module``, so that a model that uses it neither trains, saves, converts nor distributes it. Not to be shared
    by threads: the network keeps the correlations of the call in it.
    """

    def __init__(self, network, name, device="cpu", scale=8, sub_batch=8):
        """
        Args:
            network (nn.Module): takes two batches of float frames in [-1, 1], of sides that are divisible by 8 and at
                least 128; returns a list, its last entry the flow in pixels of the frames.
            name (str): what it is, with its weights; kept with the flow that it wrote.
            device (str or torch.device): where it runs.
            scale (int): the flow has 1 / scale of the frames' resolution, see :func:`~.grid.grid_size`.
            sub_batch (int): pairs of frames in one call of the network. Its correlations take 1.1 GB of memory per
                pair at 1280 x 720.
        """
        self.network = network.eval().requires_grad_(False).to(device)
        self.name = name
        self.device = torch.device(device)
        self.scale = scale
        self.sub_batch = sub_batch

    @torch.no_grad()
    def __call__(self, first, second):
        """
        Args:
            first, second (Tensor): (B, 3, H, W) uint8 RGB frames on any device, of any size; those that the network
                does not take are padded by repeating their last rows and columns.

        Returns:
            Tensor: (B, 2, h, w) float32 on the network's device, the flow from the first to the second in pixels of
            its own grid.
        """
        pairs = zip(first.split(self.sub_batch), second.split(self.sub_batch))
        with torch.autocast(self.device.type, enabled=False):
            return torch.cat([self._flow(*pair) for pair in pairs])

    def _flow(self, first, second):
        height, width = first.shape[-2:]
        size = [max(MIN_SIDE, -(-side // STRIDE) * STRIDE) for side in (height, width)]
        frames = [pad_frames(x.to(self.device), size).float() / 127.5 - 1 for x in (first, second)]
        return to_grid(self.network(*frames)[-1][..., :height, :width], self.scale)


def load_raft(size, weights="cache"):
    """RAFT network with its weights, which are never downloaded.

    Args:
        size (str): small or large.
        weights (str): file with a state dict of torchvision's network; ``cache`` for torchvision's default weights in
            PyTorch's cache; ``random`` for none.

    Returns:
        tuple[nn.Module, str]: the network, and the weights in a word.

    Raises:
        UsageError: for a file that is missing, damaged or for another network.
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
    except (RuntimeError, TypeError, AttributeError) as error:  # other names or shapes; no tensors at all
        raise UsageError(
            f"{path} does not fit torchvision's raft_{size}: name a state dict of that network, such as {default.url}."
        ) from error
    return network, os.path.splitext(os.path.basename(path))[0]


def _cached(url):
    """Where PyTorch keeps the file that it once fetched from ``url``."""
    path = os.path.join(torch.hub.get_dir(), "checkpoints", os.path.basename(url))
    if not os.path.isfile(path):
        raise UsageError(
            f"There are no weights of RAFT at {path}: fetch {url} to there, name the file of your own, or take the "
            "estimator dis, which needs none."
        )
    return path
