"""detectron2's FCOS for a yacs config; detectron2 itself builds FCOS from its Python configs only."""

from typing import Any

import torch
from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import META_ARCH_REGISTRY, build_backbone, build_resnet_backbone
from detectron2.modeling.backbone import FPN
from detectron2.modeling.backbone.fpn import LastLevelP6P7
from detectron2.modeling.meta_arch.fcos import FCOS, FCOSHead
from detectron2.structures import Boxes, Instances
from torch import nn

from ..backbone import register_backbone
from ..float32_parts import Float32BoxTransform

FAR = -1e5  # pixels


@register_backbone
def build_fcos_resnet_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """Build P3-P7 on a ResNet, with P6 and P7 from P5 as in detectron2's FCOS (RetinaNet makes them from C5)."""
    channels = cfg.MODEL.FPN.OUT_CHANNELS
    return FPN(
        bottom_up=build_resnet_backbone(cfg, input_shape),
        in_features=cfg.MODEL.FPN.IN_FEATURES,
        out_channels=channels,
        norm=cfg.MODEL.FPN.NORM,
        top_block=LastLevelP6P7(channels, channels, in_feature="p5"),
        fuse_type=cfg.MODEL.FPN.FUSE_TYPE,
    )


def build_fcos_head(cfg: CfgNode, input_shape: list[ShapeSpec]) -> FCOSHead:
    """Build detectron2's FCOS head on features of the shapes ``input_shape``."""
    fcos = cfg.MODEL.FCOS
    return FCOSHead(
        input_shape=input_shape,
        num_classes=fcos.NUM_CLASSES,
        conv_dims=[input_shape[0].channels] * fcos.NUM_CONVS,
        norm=_group_norm if fcos.NORM == "GN" else fcos.NORM,
    )


def _group_norm(channels: int) -> nn.GroupNorm:
    # detectron2 v0.6 makes a norm of one channel to see the norm's type. One channel cannot have 32 groups.
    return nn.GroupNorm(min(32, channels), channels)


def _far_object(empty: Instances) -> Instances:
    """Return an object outside the image, which matches no anchor, so that all are background."""
    far = Instances(empty.image_size)
    far.gt_boxes = Boxes(empty.gt_boxes.tensor.new_full((1, 4), FAR))
    far.gt_classes = empty.gt_classes.new_zeros(1)
    return far


@META_ARCH_REGISTRY.register()
class FCOSDetector(FCOS):
    """Build detectron2's FCOS (Tian et al. 2019) from a config; losses and inference are detectron2's."""

    @configurable
    def __init__(self, **kwargs: Any) -> None:
        """
        Args:
            **kwargs: arguments of :class:`detectron2.modeling.meta_arch.fcos.FCOS`.
        """
        super().__init__(**kwargs)
        self.box2box_transform = Float32BoxTransform(normalize_by_size=True)

    @torch.no_grad()
    def label_anchors(self, anchors: list[Boxes], gt_instances: list[Instances]) -> Any:
        """Match anchors to objects as detectron2 does; v0.6 fails for an image without an object."""
        return super().label_anchors(anchors, [gt if len(gt) else _far_object(gt) for gt in gt_instances])

    @classmethod
    def from_config(cls, cfg: CfgNode) -> dict[str, Any]:
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
