"""Networks and losses; importing it registers the meta-architectures, backbones and heads with detectron2.

Without detectron2 there are the modules alone that PixelLearner is made of.
"""

from ..detectron2_check import detectron2_is_installed

if detectron2_is_installed():
    from .classifier import LinearClassifier
    from .fcn_head import FCNHead
    from .fcos import FCOSDetector, build_fcos_resnet_fpn_backbone
    from .knn import KNNClassifier
    from .pixpro import PixPro
    from .regnet import build_regnet_backbone, build_regnet_fpn_backbone
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
