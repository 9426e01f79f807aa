"""Optical flow by dense inverse search (Kroeger et al., 2016), which needs no weights."""

import cv2
import numpy as np
import torch

from .grid import pad_frames, to_grid

MIN_SIDE = 32  # pixels; OpenCV crashes on images that are too small for its pyramid of patches


class DIS:
    """Estimate flow by OpenCV's ``DISOpticalFlow`` on grey frames.

    The estimator runs on the CPU. Frames on another device are copied to the CPU, and the flow is copied back.
    """

    name = "dis"
    device = torch.device("cpu")  # where frames need no copy

    def __init__(self, scale: int = 8) -> None:
        """
        Args:
            scale: the flow has 1 / scale of the frames' resolution, see :func:`~.grid.grid_size`.
        """
        self.scale = scale

    def __call__(self, first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
        """Estimate the flow from the first frames to the second.

        Args:
            first, second: (B, 3, H, W) uint8 RGB frames.

        Returns:
            (B, 2, h, w) float32 flow on the frames' device, in pixels of its own grid.
        """
        # Create an object per call: threads must not share its buffers, and no process can copy or receive it.
        create = cv2.DISOpticalFlow_create  # type: ignore[attr-defined]  # OpenCV's types lack it
        search = create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        flow = [search.calc(*pair, None) for pair in zip(_grey(first), _grey(second))]
        height, width = first.shape[-2:]
        dense = torch.from_numpy(np.stack(flow)).permute(0, 3, 1, 2)[..., :height, :width]
        return to_grid(dense, self.scale).to(first.device)


def _grey(frames: torch.Tensor) -> list[np.ndarray]:
    """Return the frames as (H, W) uint8 arrays with both sides at least MIN_SIDE."""
    size = [max(side, MIN_SIDE) for side in frames.shape[-2:]]
    rgb = pad_frames(frames.cpu(), size).permute(0, 2, 3, 1).contiguous().numpy()
    return [cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in rgb]
