"""Store and read optical flow in files; this package handles arrays only.

Flow has the shape (..., 2, h, w): channel 0 is x, channel 1 is y, in pixels of its own h x w grid. The corner points of
the grid lie on the centres of the corner pixels of the frame (``align_corners``). The frame may have any size H x W; a
displacement in pixels of the frame is W / w, H / h times as long.
"""

from .native import write_flow, write_manifest
from .storage import FlowFiles

__all__ = ["FlowFiles", "write_flow", "write_manifest"]
