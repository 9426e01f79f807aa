"""Optical flow by dense inverse search (Kroeger et al., 2016), which needs no weights."""

import cv2
import numpy as np
import torch

from ..utils.errors import check_choice
from .grid import pad_frames, to_grid

PRESETS = {
    "ultrafast": cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST,
    "fast": cv2.DISOPTICAL_FLOW_PRESET_FAST,
    "medium": cv2.DISOPTICAL_FLOW_PRESET_MEDIUM,
}
MIN_SIDE = 32  # OpenCV crashes on images that have no room for its pyramid of patches


class DIS:
    """OpenCV's ``DISOpticalFlow`` on grey frames.

    It runs on the CPU: frames on another device are copied there, and the flow is copied back.
    """

    def __init__(self, preset="medium", scale=8):
        """
        Args:
            preset (str): out of ``PRESETS``, from fast to accurate.
            scale (int): the flow has 1 / scale of the frames' resolution, see :func:`~.grid.grid_size`.
        """
        check_choice("The preset of DIS", preset, tuple(PRESETS))
        self.name = "dis" if preset == "medium" else f"dis_{preset}"
        self.scale = scale
        self.preset = PRESETS[preset]

    def __call__(self, first, second):
        """
        Args:
            first, second (Tensor): (B, 3, H, W) uint8 RGB frames.

        Returns:
            Tensor: (B, 2, h, w) float32 on the frames' device, the flow from the first to the second in pixels of
            its own grid.
        """
        # An object a call: it holds buffers that threads must not share, and cannot be copied or sent to a process.
        search = cv2.DISOpticalFlow_create(self.preset)
        flow = [search.calc(*pair, None) for pair in zip(_grey(first), _grey(second))]
        height, width = first.shape[-2:]
        dense = torch.from_numpy(np.stack(flow)).permute(0, 3, 1, 2)[..., :height, :width]
        return to_grid(dense, self.scale).to(first.device)


def _grey(frames):
    """List of (H, W) uint8 arrays, both sides at least MIN_SIDE."""
    size = [max(side, MIN_SIDE) for side in frames.shape[-2:]]
    rgb = pad_frames(frames.cpu(), size).permute(0, 2, 3, 1).contiguous().numpy()
    return [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in rgb]
