"""A one-stage detector's dense head inside the branches, so that pre-training reaches beyond the pyramid."""

from collections.abc import Callable
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import Backbone
from detectron2.modeling.meta_arch.retinanet import RetinaNetHead
from torch import Tensor, nn

from .fcos import build_fcos_head


class DenseTowers(nn.Module):
    """Apply the two convolution towers of RetinaNet's or FCOS' head, under the detector's own weight names.

    Classification tower and box tower see the same feature. Their results are concatenated, so both are trained.
    The layers that predict classes and boxes stay with the detector.
    """

    def __init__(self, cls_subnet: nn.Module, bbox_subnet: nn.Module, out_channels: int) -> None:
        """
        Args:
            cls_subnet, bbox_subnet: each maps (N, C, H, W) to (N, out_channels / 2, H, W).
            out_channels: channels of both towers together.
        """
        super().__init__()
        self.cls_subnet = cls_subnet
        self.bbox_subnet = bbox_subnet
        self.out_channels = out_channels

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """Map a pyramid's levels to the same levels with ``out_channels`` channels."""
        return {level: torch.cat((self.cls_subnet(x), self.bbox_subnet(x)), dim=1) for level, x in features.items()}


# MODEL.PIXPRO.HEAD -> function of (cfg, list of input shapes) that makes the detector's head
HEADS: dict[str, Callable[[CfgNode, list[ShapeSpec]], Any]] = {
    "retinanet": RetinaNetHead,
    "fcos": build_fcos_head,
}


def build_dense_head(cfg: CfgNode, backbone: Backbone) -> DenseTowers:
    """Build the head named by ``MODEL.PIXPRO.HEAD`` on the features of ``MODEL.PIXPRO.IN_FEATURES``."""
    shapes = [backbone.output_shape()[level] for level in cfg.MODEL.PIXPRO.IN_FEATURES]
    head = HEADS[cfg.MODEL.PIXPRO.HEAD](cfg, shapes)
    return DenseTowers(head.cls_subnet, head.bbox_subnet, head.cls_score.in_channels + head.bbox_pred.in_channels)
