"""Optical flow of videos: estimating it, and reading and writing it in files.

Flow is (..., 2, h, w): channel 0 is x, channel 1 is y, in pixels of its own h x w grid. The corner points of the grid
lie on the centres of the corner pixels of the frame (``align_corners``), whose size may be any other H x W; a
displacement in pixels of the frame is W / w, H / h times as long.
"""

from .estimators import ESTIMATORS, build_estimator
from .native_files import write_flow, write_manifest
from .storage import FlowFiles

__all__ = ["ESTIMATORS", "FlowFiles", "build_estimator", "write_flow", "write_manifest"]
