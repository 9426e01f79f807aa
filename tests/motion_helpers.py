"""Flows of one vector everywhere, and the motion of one sample, for the tests of the flow maths."""

import torch

from pixpro_d2.modeling.pretrain.flow_points import FlowScale, Motion

HD = (720, 1280)
SMALL = (8, 16)


def constant(x, y=0.0, steps=1, size=(2, 2)):
    """(steps, 2, h, w) flow of one vector."""
    return torch.tensor([x, y]).view(1, 2, 1, 1).expand(steps, 2, *size).contiguous()


def one_motion(there, back, size):
    """Motion of one sample with flows (m, 2, h, w) in a frame of (H, W)."""
    frame = torch.tensor([size])
    scale = FlowScale.from_sizes(torch.tensor([there.shape[-2:]]), frame, frame)
    return Motion(there[None].float(), back[None].float(), scale)
