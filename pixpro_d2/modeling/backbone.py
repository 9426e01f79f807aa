"""Backbones that detectron2 has but cannot build from a yacs config, and PixPro's initialisation."""

from collections.abc import Sequence

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, Backbone
from detectron2.modeling.backbone import FPN
from detectron2.modeling.backbone.fpn import LastLevelMaxPool
from detectron2.modeling.backbone.regnet import RegNet, ResBottleneckBlock, SimpleStem
from detectron2.modeling.backbone.resnet import BasicBlock, BottleneckBlock
from torch import Tensor, nn

from ..utils.errors import UsageError


@BACKBONE_REGISTRY.register()
def build_regnet_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> RegNet:
    """Build a RegNet (Radosavovic et al. 2020) from ``MODEL.REGNETS``; its features are named stem, s1 .. s4."""
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


@BACKBONE_REGISTRY.register()
def build_regnet_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> FPN:
    """Build an FPN from ``MODEL.FPN`` over :func:`build_regnet_backbone`."""
    return FPN(
        bottom_up=build_regnet_backbone(cfg, input_shape),
        in_features=cfg.MODEL.FPN.IN_FEATURES,
        out_channels=cfg.MODEL.FPN.OUT_CHANNELS,
        norm=cfg.MODEL.FPN.NORM,
        top_block=LastLevelMaxPool(),
        fuse_type=cfg.MODEL.FPN.FUSE_TYPE,
    )


def zero_init_residual(backbone: nn.Module) -> None:
    """Set the last norm weight of every residual block of a ResNet to 0, so that each block starts as the identity.

    The official PixPro encoder starts with these zeros, and so does detectron2's RegNet. detectron2's ResNet does not.
    """
    for block in backbone.modules():
        if isinstance(block, BottleneckBlock):
            last = block.conv3.norm
        elif isinstance(block, BasicBlock):
            last = block.conv2.norm
        else:
            continue
        if getattr(last, "weight", None) is not None:
            nn.init.zeros_(last.weight)


def feature_channels(backbone: Backbone, names: Sequence[str]) -> dict[str, int]:
    """Return the number of channels of each of the backbone's features ``names``.

    Raises:
        UsageError: if the backbone does not have a feature, or ``names`` is empty.
    """
    shapes = backbone.output_shape()
    for name in names:
        if name not in shapes:
            raise UsageError(
                f"MODEL.PIXPRO.IN_FEATURES names '{name}', but the backbone has {', '.join(shapes)}: choose from "
                "these, or add the feature to the backbone's OUT_FEATURES."
            )
    if not names:
        raise UsageError(f"MODEL.PIXPRO.IN_FEATURES is empty: choose from {', '.join(shapes)}.")
    return {name: shapes[name].channels for name in names}


def bottom_up(backbone: Backbone) -> Backbone:
    """Return the network below an FPN, or the backbone itself if it is no FPN."""
    return getattr(backbone, "bottom_up", backbone)


def last_feature_channels(backbone: Backbone) -> int:
    """Return the number of channels of the bottom-up network's last feature (C5 of a ResNet)."""
    return list(bottom_up(backbone).output_shape().values())[-1].channels


def forward_with_last(backbone: Backbone, images: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    """Run a backbone on (N, C, H, W) images; return its features, and the last feature of the bottom-up network.

    An FPN does not return the features of the network below it, so a hook collects them.
    """
    below = bottom_up(backbone)
    last = list(below.output_shape())[-1]
    if below is backbone:
        features = backbone(images)
        return features, features[last]
    seen: dict[str, Tensor] = {}
    hook = below.register_forward_hook(lambda module, inputs, output: seen.update(output))
    try:
        features = backbone(images)
    finally:
        hook.remove()
    return features, seen[last]
