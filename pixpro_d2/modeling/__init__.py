"""Networks and losses; importing it registers the meta-architectures, backbones and heads with detectron2.

Without detectron2 there are the modules alone that PixelLearner is made of.
"""

from ..utils.detectron2_check import detectron2_is_installed

if detectron2_is_installed():
    from .heads.classifier import LinearClassifier
    from .heads.deeplab_head import AnySizeDeepLabV3Head
    from .heads.fcn_head import FCNHead
    from .heads.fcos import FCOSDetector, build_fcos_resnet_fpn_backbone
    from .heads.knn import KNNClassifier
    from .heads.roi_heads import Res5ROIHeadsExtraNorm
    from .pretrain.pixpro import PixPro
    from .regnet import build_regnet_backbone, build_regnet_fpn_backbone
    from .timm_builders import (
        build_fcos_timm_fpn_backbone,
        build_retinanet_timm_fpn_backbone,
        build_timm_backbone,
        build_timm_fpn_backbone,
    )

    __all__ = [
        "AnySizeDeepLabV3Head",
        "FCNHead",
        "FCOSDetector",
        "KNNClassifier",
        "LinearClassifier",
        "PixPro",
        "Res5ROIHeadsExtraNorm",
        "build_fcos_resnet_fpn_backbone",
        "build_fcos_timm_fpn_backbone",
        "build_regnet_backbone",
        "build_regnet_fpn_backbone",
        "build_retinanet_timm_fpn_backbone",
        "build_timm_backbone",
        "build_timm_fpn_backbone",
    ]
