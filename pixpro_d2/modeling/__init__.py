"""Networks and losses; importing it registers the meta-architecture, backbones and ROI heads."""

from .backbone import build_regnet_backbone, build_regnet_fpn_backbone
from .pixpro import PixPro
from .roi_heads import Res5ROIHeadsExtraNorm

__all__ = ["PixPro", "Res5ROIHeadsExtraNorm", "build_regnet_backbone", "build_regnet_fpn_backbone"]
