"""Build networks of timm from a config, alone or below a pyramid."""

from collections.abc import Callable

from detectron2.config import CfgNode
from detectron2.layers import ShapeSpec
from detectron2.modeling import Backbone
from detectron2.modeling.backbone import FPN
from detectron2.modeling.backbone.fpn import LastLevelMaxPool, LastLevelP6P7
from torch import nn

from ..utils.errors import UsageError
from .backbone import register_backbone
from .batch_norms import convert_batch_norms
from .simple_pyramid import SimpleFeaturePyramid
from .timm_backbone import NAMES, PLAIN, TimmBackbone

LEVELS = {name: stride.bit_length() - 1 for stride, name in NAMES.items()}  # of the pyramid's level on each feature


@register_backbone
def build_timm_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> TimmBackbone:
    """Build the network of ``MODEL.TIMM``; features named stem, res2 .. res5, or last_feat."""
    if not cfg.MODEL.TIMM.NAME:
        raise UsageError("MODEL.TIMM.NAME is empty: name a network of timm, such as convnext_tiny.")
    if cfg.MODEL.BACKBONE.FREEZE_AT > 0:
        raise UsageError(
            f"MODEL.BACKBONE.FREEZE_AT is {cfg.MODEL.BACKBONE.FREEZE_AT}, which networks of timm do not have: set it "
            "0, or MODEL.BACKBONE.FROZEN True to fix the whole network."
        )
    if cfg.MODEL.META_ARCHITECTURE == "GeneralizedRCNN" and cfg.MODEL.ROI_HEADS.NAME.startswith("Res5ROIHeads"):
        raise UsageError(
            f"MODEL.ROI_HEADS.NAME {cfg.MODEL.ROI_HEADS.NAME} needs res5 of detectron2's ResNet, not a network of "
            "timm: use a config with an FPN, such as configs/voc/faster_rcnn_R_50_FPN_24k.yaml."
        )
    options = cfg.MODEL.TIMM
    backbone = TimmBackbone(options.NAME, input_shape.channels, options.OUT_FEATURES, options.OUTPUT_STRIDE)
    convert_batch_norms(backbone, options.NORM)
    return backbone


@register_backbone
def build_timm_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> Backbone:
    """Build a pyramid with P6 by subsampling P5, as in detectron2's R-CNN."""
    return _build_pyramid(cfg, input_shape, lambda shapes, channels: LastLevelMaxPool())


@register_backbone
def build_retinanet_timm_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> Backbone:
    """Build a pyramid with P6 and P7 from res5, as in detectron2's RetinaNet; a plain network has them from P5."""
    return _build_pyramid(cfg, input_shape, _p6_p7_of_res5)


@register_backbone
def build_fcos_timm_fpn_backbone(cfg: CfgNode, input_shape: ShapeSpec) -> Backbone:
    """Build a pyramid with P6 and P7 from P5, as in detectron2's FCOS."""
    return _build_pyramid(cfg, input_shape, lambda shapes, channels: LastLevelP6P7(channels, channels, "p5"))


def _p6_p7_of_res5(shapes: dict[str, ShapeSpec], channels: int) -> nn.Module:
    if PLAIN in shapes:
        return LastLevelP6P7(channels, channels, "p5")
    return LastLevelP6P7(shapes["res5"].channels, channels)


def _build_pyramid(
    cfg: CfgNode, input_shape: ShapeSpec, build_top: Callable[[dict[str, ShapeSpec], int], nn.Module]
) -> Backbone:
    """Build the levels of ``MODEL.FPN.IN_FEATURES`` on a network of timm: by an FPN, or by a simple feature pyramid.

    Args:
        cfg: config with ``MODEL.FPN`` and ``MODEL.TIMM``.
        input_shape: channels of the images.
        build_top: makes the block above the pyramid from the network's features and the pyramid's channels.
    """
    network, fpn = build_timm_backbone(cfg, input_shape), cfg.MODEL.FPN
    shapes, channels = network.output_shape(), fpn.OUT_CHANNELS
    _check_levels(network, fpn.IN_FEATURES)
    top = build_top(shapes, channels)
    if PLAIN in shapes:
        return SimpleFeaturePyramid(network, PLAIN, [LEVELS[name] for name in fpn.IN_FEATURES], channels, top)
    return FPN(network, fpn.IN_FEATURES, channels, fpn.NORM, top, fpn.FUSE_TYPE)


def _check_levels(network: TimmBackbone, features: list[str]) -> None:
    """Check that a pyramid can have a level for each of ``features``, and that the last one is res5."""
    shapes, key = network.output_shape(), "MODEL.FPN.IN_FEATURES"
    known = list(LEVELS)[1:] if network.is_plain else list(shapes)
    missing = next((name for name in features if name not in known), None)
    if missing is not None:
        raise UsageError(f"{key} names '{missing}', but {network.name} has {', '.join(known)}: choose from these.")
    if not features or features[-1] != "res5":
        raise UsageError(f"{key} is {list(features)}; on a network of timm it must end with res5.")
    if network.is_plain:
        stride = shapes[PLAIN].stride
        if stride & (stride - 1):
            raise UsageError(
                f"{network.name} has patches of {stride} pixels, and the levels of its pyramid would not have whole "
                "strides: choose patches of 8 or 16, or use the network without a pyramid by build_timm_backbone."
            )
    elif shapes["res5"].stride != 2 ** LEVELS["res5"]:
        raise UsageError(f"MODEL.TIMM.OUTPUT_STRIDE is {shapes['res5'].stride}; a pyramid needs 32.")
