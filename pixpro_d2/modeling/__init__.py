"""Networks and losses; importing it registers the meta-architectures, backbones and heads."""

from .backbone import build_regnet_backbone, build_regnet_fpn_backbone
from .heads.classifier import LinearClassifier
from .heads.fcn_head import FCNHead
from .heads.fcos import FCOSDetector, build_fcos_resnet_fpn_backbone
from .heads.knn import KNNClassifier
from .heads.roi_heads import Res5ROIHeadsExtraNorm
from .pretrain.pixpro import PixPro

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
