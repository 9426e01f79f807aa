"""detectron2's FCOS, which it builds from its Python configs only, for a yacs config."""

from detectron2.config import configurable
from detectron2.modeling import BACKBONE_REGISTRY, META_ARCH_REGISTRY, build_backbone, build_resnet_backbone
from detectron2.modeling.backbone import FPN
from detectron2.modeling.backbone.fpn import LastLevelP6P7
from detectron2.modeling.meta_arch.fcos import FCOS, FCOSHead
from torch import nn


@BACKBONE_REGISTRY.register()
def build_fcos_resnet_fpn_backbone(cfg, input_shape):
    """P3-P7 of a ResNet with P6 and P7 made from P5, as detectron2's FCOS has them (RetinaNet's come from C5)."""
    channels = cfg.MODEL.FPN.OUT_CHANNELS
    return FPN(
        bottom_up=build_resnet_backbone(cfg, input_shape),
        in_features=cfg.MODEL.FPN.IN_FEATURES,
        out_channels=channels,
        norm=cfg.MODEL.FPN.NORM,
        top_block=LastLevelP6P7(channels, channels, in_feature="p5"),
        fuse_type=cfg.MODEL.FPN.FUSE_TYPE,
    )


def build_fcos_head(cfg, input_shape):
    """detectron2's FCOS head on features of the shapes ``input_shape`` (list[ShapeSpec])."""
    fcos = cfg.MODEL.FCOS
    return FCOSHead(
        input_shape=input_shape,
        num_classes=fcos.NUM_CLASSES,
        conv_dims=[input_shape[0].channels] * fcos.NUM_CONVS,
        norm=_group_norm if fcos.NORM == "GN" else fcos.NORM,
    )


def _group_norm(channels):
    # detectron2 v0.6 makes a norm of one channel only to see its type, which 32 groups forbid.
    return nn.GroupNorm(min(32, channels), channels)


@META_ARCH_REGISTRY.register()
class FCOSDetector(FCOS):
    """detectron2's FCOS (Tian et al. 2019) with ``from_config``; losses and inference are its own."""

    @configurable
    def __init__(self, **kwargs):
        """
        Args:
            **kwargs: of :class:`detectron2.modeling.meta_arch.fcos.FCOS`.
        """
        super().__init__(**kwargs)

    @classmethod
    def from_config(cls, cfg):
        fcos = cfg.MODEL.FCOS
        backbone = build_backbone(cfg)
        shapes = backbone.output_shape()
        return {
            "backbone": backbone,
            "head": build_fcos_head(cfg, [shapes[level] for level in fcos.IN_FEATURES]),
            "head_in_features": fcos.IN_FEATURES,
            "num_classes": fcos.NUM_CLASSES,
            "test_score_thresh": fcos.SCORE_THRESH_TEST,
            "test_nms_thresh": fcos.NMS_THRESH_TEST,
            "max_detections_per_image": cfg.TEST.DETECTIONS_PER_IMAGE,
            "pixel_mean": cfg.MODEL.PIXEL_MEAN,
            "pixel_std": cfg.MODEL.PIXEL_STD,
        }
