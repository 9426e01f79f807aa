"""Networks and losses; importing it registers the meta-architectures, backbones and heads."""

from .backbone import build_regnet_backbone, build_regnet_fpn_backbone
from .classifier import LinearClassifier
from .fcn_head import FCNHead
from .fcos import FCOSDetector, build_fcos_resnet_fpn_backbone
from .knn import KNNClassifier
from .pixpro import PixPro
from .roi_heads import Res5ROIHeadsExtraNorm

__all__ = [
    "FCNHead",
    "FCOSDetector",
    "KNNClassifier",
    "LinearClassifier",
    "PixPro",
    "Res5ROIHeadsExtraNorm",
    "build_fcos_resnet_fpn_backbone",
    "build_regnet_backbone",
    "build_regnet_fpn_backbone",
]
