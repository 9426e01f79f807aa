"""PixPro's initialisation of a ResNet."""

from detectron2.layers import FrozenBatchNorm2d
from detectron2.modeling.backbone.resnet import BasicBlock, BottleneckBlock
from torch import nn


def zero_init_residual(backbone: nn.Module) -> None:
    """Set the last norm weight of every residual block of a ResNet to 0, so that it starts as the identity.

    The official PixPro encoder starts so; detectron2's ResNet does not, its RegNet does by itself. The residual blocks
    of timm have a method for it. A FrozenBN keeps its weight, because no training would change a 0.
    """
    for block in backbone.modules():
        if isinstance(block, BottleneckBlock):
            last = block.conv3.norm
        elif isinstance(block, BasicBlock):
            last = block.conv2.norm
        elif callable(method := getattr(block, "zero_init_last", None)):
            if not any(isinstance(part, FrozenBatchNorm2d) for part in block.modules()):
                method()
            continue
        else:
            continue
        if isinstance(getattr(last, "weight", None), nn.Parameter):
            nn.init.zeros_(last.weight)
