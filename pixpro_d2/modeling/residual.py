"""PixPro's initialisation of a ResNet."""

from detectron2.modeling.backbone.resnet import BasicBlock, BottleneckBlock
from torch import nn


def zero_init_residual(backbone: nn.Module) -> None:
    """Set the last norm weight of every residual block of a ResNet to 0, so that it starts as the identity.

    The official PixPro encoder starts so; detectron2's ResNet does not, its RegNet does by itself. The residual blocks
    of timm have a method for it.
    """
    for block in backbone.modules():
        if isinstance(block, BottleneckBlock):
            last = block.conv3.norm
        elif isinstance(block, BasicBlock):
            last = block.conv2.norm
        elif callable(method := getattr(block, "zero_init_last", None)):
            method()
            continue
        else:
            continue
        if getattr(last, "weight", None) is not None:
            nn.init.zeros_(last.weight)
