"""RegNet, which detectron2 has but cannot build from a yacs config."""

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling.backbone import FPN
from detectron2.modeling.backbone.fpn import LastLevelMaxPool
from detectron2.modeling.backbone.regnet import RegNet, ResBottleneckBlock, SimpleStem

from ..utils.errors import UsageError
from .backbone import register_backbone


@register_backbone
def build_regnet_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> RegNet:
    """RegNet (Radosavovic et al. 2020) from ``MODEL.REGNETS``; features named stem, s1 .. s4."""
    if input_shape.channels != 3:
        raise UsageError(
            f"detectron2's RegNet takes 3 input channels, but MODEL.PIXEL_MEAN has {input_shape.channels} values."
        )
    regnets = cfg.MODEL.REGNETS
    return RegNet(
        stem_class=SimpleStem,
        stem_width=regnets.STEM_WIDTH,
        block_class=ResBottleneckBlock,
        depth=regnets.DEPTH,
        w_a=regnets.W_A,
        w_0=regnets.W_0,
        w_m=regnets.W_M,
        group_width=regnets.GROUP_WIDTH,
        se_ratio=regnets.SE_RATIO,
        freeze_at=cfg.MODEL.BACKBONE.FREEZE_AT,
        norm=regnets.NORM,
        out_features=list(regnets.OUT_FEATURES),
    )


@register_backbone
def build_regnet_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """FPN with ``MODEL.FPN``'s keys over :func:`build_regnet_backbone`."""
    return FPN(
        bottom_up=build_regnet_backbone(cfg, input_shape),
        in_features=cfg.MODEL.FPN.IN_FEATURES,
        out_channels=cfg.MODEL.FPN.OUT_CHANNELS,
        norm=cfg.MODEL.FPN.NORM,
        top_block=LastLevelMaxPool(),
        fuse_type=cfg.MODEL.FPN.FUSE_TYPE,
    )
